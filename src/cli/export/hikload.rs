//! A command line of hikload in the place of ours.

use std::ffi::OsString;

use clap::Parser;
use secrecy::SecretString;

use super::ExportArgs;
use crate::cli::failure::{Failure, Kind, note};
use crate::export::hikload::{Translated, translate};

/// `framehaul export` and its options alone.
#[derive(Debug, Parser)]
#[command(name = "framehaul export")]
struct Alone {
    #[command(flatten)]
    args: ExportArgs,
}

/// What is asked for, in options of ours, and the password where hikload's line was a file that holds one.
pub fn translated(args: ExportArgs) -> Result<(ExportArgs, Option<SecretString>), Failure> {
    let usage = |what: &str, why: String| Failure::new(Kind::Usage, format!("{what}: {why}"));
    let (what, line) = match (&args.hikload_args, &args.hikload_args_file) {
        (Some(line), _) => ("--hikload-args", line.clone()),
        (None, Some(file)) => {
            let read = std::fs::read_to_string(file);
            let failed = |error| Failure::new(Kind::Config, format!("cannot read {}: {error}", file.display()));
            ("--hikload-args-file", read.map_err(failed)?)
        }
        (None, None) => return Ok((args, None)),
    };
    let Translated { arguments, password, notes } = translate(&line).map_err(|why| usage(what, why))?;
    if password.is_some() && args.hikload_args.is_some() {
        let why = "--password on a command line can be seen by every user of this machine: change it, and use --password-file \
                   FILE in its place, or put the whole line into a file for --hikload-args-file";
        return Err(usage(what, why.to_owned()));
    }
    for line in notes {
        note(format_args!("note: {line}"));
    }
    let own = own(std::env::args_os());
    // Clap's own words name an option and its value; passwords have no option by now.
    let all = [OsString::from("framehaul export")].into_iter().chain(arguments.into_iter().map(Into::into)).chain(own);
    match Alone::try_parse_from(all) {
        Ok(Alone { args }) => Ok((args, password)),
        Err(error) => Err(usage(what, error.to_string())),
    }
}

/// What stands on our own command line beside hikload's: it goes above that.
fn own(line: impl Iterator<Item = OsString>) -> Vec<OsString> {
    line.skip_while(|word| word != "export").skip(1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_beside_hikloads_line_stands_above_it() {
        let line = ["framehaul", "export", "--hikload-args", "--server a", "--to", "file:///x"];
        let own = own(line.iter().map(Into::into));
        assert_eq!(own, ["--hikload-args", "--server a", "--to", "file:///x"].map(OsString::from));
        let Translated { arguments, .. } = translate("--server a --username u --cameras 101 --yesterday").unwrap();
        let all = [OsString::from("x")].into_iter().chain(arguments.into_iter().map(Into::into)).chain(own);
        let all = all.chain(["--password-file", "p"].map(Into::into));
        let Alone { args } = Alone::try_parse_from(all).unwrap();
        assert_eq!(args.to.as_deref(), Some("file:///x"));
    }
}
