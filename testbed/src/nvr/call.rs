//! From a request line to the call it means.

use hyper::Method;

use super::stats::Calls;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    GetKnobs,
    ChangeKnobs,
    GetStats,
    Page(Page),
    /// The days of a month on which a track has recordings.
    Days(u32),
    Search,
    Download,
    /// A picture of a track.
    Picture,
    /// Known, but not by this method.
    Method,
    Unknown,
}

/// What describes the recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    UserCheck,
    DeviceInfo,
    Status,
    Capabilities,
    Time,
    Ports,
    Channels,
    Cameras,
    CamerasStatus,
    Inputs,
    Tracks,
    SearchProfile,
    DownloadAbility,
    Storage,
}

/// All of them, by their paths below `/ISAPI/`.
const PAGES: [(&str, Page); 14] = [
    ("Security/userCheck", Page::UserCheck),
    ("Security/adminAccesses", Page::Ports),
    ("System/deviceInfo", Page::DeviceInfo),
    ("System/status", Page::Status),
    ("System/capabilities", Page::Capabilities),
    ("System/time", Page::Time),
    ("System/Video/inputs/channels", Page::Inputs),
    ("Streaming/channels", Page::Channels),
    ("ContentMgmt/InputProxy/channels", Page::Cameras),
    ("ContentMgmt/InputProxy/channels/status", Page::CamerasStatus),
    ("ContentMgmt/record/tracks", Page::Tracks),
    ("ContentMgmt/search/profile", Page::SearchProfile),
    ("ContentMgmt/download/capabilities", Page::DownloadAbility),
    ("ContentMgmt/Storage", Page::Storage),
];

impl Call {
    /// Reads the request line.
    pub(super) fn of(method: &Method, path: &str) -> Call {
        match (method.as_str(), path) {
            ("GET", "/_testbed/knobs") => return Call::GetKnobs,
            ("PUT", "/_testbed/knobs") => return Call::ChangeKnobs,
            ("GET", "/_testbed/stats") => return Call::GetStats,
            _ => {}
        }
        let Some(path) = path.strip_prefix("/ISAPI/").map(|path| path.trim_end_matches('/')) else {
            return Call::Unknown;
        };
        let days = || path.strip_prefix("ContentMgmt/record/tracks/")?.strip_suffix("/dailyDistribution")?.parse().ok();
        let (call, allowed): (Call, &[Method]) = match path {
            "ContentMgmt/search" => (Call::Search, &[Method::POST]),
            // Which of them is a knob.
            "ContentMgmt/download" => (Call::Download, &[Method::GET, Method::POST]),
            _ => match (PAGES.iter().find(|(of, _)| *of == path), days()) {
                (Some((_, page)), _) => (Call::Page(*page), &[Method::GET]),
                (None, Some(track)) => (Call::Days(track), &[Method::POST]),
                (None, None) if path.starts_with("Streaming/tracks/") => (Call::Picture, &[Method::GET]),
                (None, None) => return Call::Unknown,
            },
        };
        if allowed.contains(method) { call } else { Call::Method }
    }

    /// Whether this is about the test bed and not about the recorder.
    pub(super) fn is_control(self) -> bool {
        matches!(self, Call::GetKnobs | Call::ChangeKnobs | Call::GetStats)
    }

    /// Adds the call to its count.
    pub(super) fn count(self, calls: &mut Calls) {
        let count = match self {
            Call::GetKnobs | Call::ChangeKnobs | Call::GetStats => return,
            Call::Page(Page::DeviceInfo) => &mut calls.device_info,
            Call::Page(Page::Channels) => &mut calls.channels,
            Call::Page(_) | Call::Days(_) => &mut calls.pages,
            Call::Search => &mut calls.search,
            Call::Download | Call::Picture => &mut calls.download,
            Call::Method | Call::Unknown => &mut calls.unknown,
        };
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_lines_become_calls() {
        for (method, path, expected) in [
            ("GET", "/ISAPI/System/deviceInfo", Call::Page(Page::DeviceInfo)),
            ("GET", "/ISAPI/ContentMgmt/InputProxy/channels/", Call::Page(Page::Cameras)),
            ("GET", "/ISAPI/ContentMgmt/InputProxy/channels/status", Call::Page(Page::CamerasStatus)),
            ("PUT", "/ISAPI/System/time", Call::Method),
            ("POST", "/ISAPI/ContentMgmt/search", Call::Search),
            ("GET", "/ISAPI/ContentMgmt/search", Call::Method),
            ("GET", "/ISAPI/ContentMgmt/download", Call::Download),
            ("POST", "/ISAPI/ContentMgmt/download", Call::Download),
            ("POST", "/ISAPI/ContentMgmt/record/tracks/101/dailyDistribution", Call::Days(101)),
            ("POST", "/ISAPI/ContentMgmt/record/tracks/x/dailyDistribution", Call::Unknown),
            ("GET", "/ISAPI/Streaming/tracks/103/", Call::Picture),
            ("POST", "/ISAPI/Streaming/tracks/103/", Call::Method),
            ("GET", "/PSIA/System/deviceInfo", Call::Unknown),
            ("GET", "/", Call::Unknown),
            ("PUT", "/_testbed/knobs", Call::ChangeKnobs),
        ] {
            assert_eq!(Call::of(&method.parse().unwrap(), path), expected, "{method} {path}");
        }
    }
}
