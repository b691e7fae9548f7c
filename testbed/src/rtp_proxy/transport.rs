//! The Transport headers of SETUP (RFC 2326, section 12.39).

/// The first of the two ports that a Transport header gives under a name; RTCP's is the one above.
pub(super) fn port(value: &str, name: &str) -> Option<u16> {
    let (_, rest) = value.split_once(&format!("{name}="))?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
    digits.parse().ok()
}

/// With another pair of ports under a name, from `first` on.
pub(super) fn with_ports(value: &str, name: &str, first: u16) -> String {
    let is_it = |part: &str| part.split_once('=').is_some_and(|(found, _)| found == name);
    let parts = value
        .split(';')
        .map(|part| if is_it(part) { format!("{name}={first}-{}", u32::from(first) + 1) } else { part.to_owned() });
    parts.collect::<Vec<_>>().join(";")
}
