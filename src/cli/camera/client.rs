//! The API, as a command asks it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{ACCEPT, IF_NONE_MATCH};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use url::Url;

use crate::cli::ConfigArgs;
use crate::cli::failure::{Failure, Kind};
use crate::cli::table::plain;
use crate::config::Settings;
use crate::http::Token;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// For an answer from its first byte to its last.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Silence on a stream of events; the daemon sends a comment every 15 s.
const SILENT_FOR: Duration = Duration::from_secs(60);

/// A daemon, and the right to ask it.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Token,
    token_file: PathBuf,
}

/// A body as it came, and the JSON in it.
#[derive(Debug)]
pub struct Answer {
    pub text: String,
    pub json: Value,
}

impl Client {
    /// Finds out from the command line where the API is and which token opens it; what is not said there is in the
    /// configuration.
    pub fn new(config: &ConfigArgs, api: Option<&str>, token_file: Option<&Path>) -> Result<Self, Failure> {
        let (base, token_file) = match (api, token_file) {
            (Some(api), Some(file)) => (read_base(api)?, file.to_owned()),
            (Some(_), None) => {
                let detail = "--api needs --token-file: the token of this machine's daemon is sent nowhere else";
                return Err(Failure::new(Kind::Usage, detail));
            }
            (None, file) => {
                let settings = crate::cli::load(config).map_err(|_| Failure::Told(Kind::Config))?;
                let file = file.unwrap_or(&settings.token_file).to_owned();
                (configured_base(&settings)?, file)
            }
        };
        let token = Token::read(&token_file).map_err(|error| {
            let way_out = "name another with --token-file, or the daemon's configuration with --config";
            Failure::new(Kind::Config, format!("{error:#}: {way_out}"))
        })?;
        // No proxy and no redirect gets to see the token.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_WITHIN)
            .read_timeout(SILENT_FOR)
            .build()
            .map_err(|error| Failure::new(Kind::Other, format!("cannot make an HTTP client: {}", chain(&error))))?;
        Ok(Self { http, base, token, token_file })
    }

    /// Asks, with a JSON body if there is one; the answer is a success.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let request = self.http.request(method, format!("{}{path}", self.base));
        self.answer(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    /// Puts something where nothing may be.
    pub async fn put_new(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        let request = self.http.put(format!("{}{path}", self.base)).json(body);
        self.answer(request.header(IF_NONE_MATCH, "*")).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Answer, Failure> {
        let response = self.send(request.timeout(ANSWER_WITHIN)).await?;
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        let json = match text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).map_err(|_| self.no_framehaul())?,
        };
        Ok(Answer { text, json })
    }

    /// Opens a stream of events.
    pub async fn events(&self, path: &str, last_id: Option<&str>) -> Result<Response, Failure> {
        let mut request = self.http.get(format!("{}{path}", self.base)).header(ACCEPT, "text/event-stream");
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        self.send(request).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, Failure> {
        let response =
            request.bearer_auth(self.token.expose()).send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        let Ok(problem) = serde_json::from_str::<Value>(&text) else { return Err(self.no_framehaul()) };
        let mut message = match problem["detail"].as_str() {
            Some(detail) => plain(detail),
            None => format!("{} answers {status}", self.base),
        };
        for error in problem["errors"].as_array().into_iter().flatten() {
            let [field, detail] = ["field", "detail"].map(|key| plain(error[key].as_str().unwrap_or_default()));
            message += &format!("\n  {field}: ");
            if let Some(value) = error["value"].as_str() {
                message += &format!("`{}` ", plain(value));
            }
            message += &detail;
        }
        if status == StatusCode::UNAUTHORIZED {
            message = format!("{message}\n  the token came from {}", self.token_file.display());
        }
        Err(Failure::new(kind_of(status), message))
    }

    /// The connection could not be made, or broke.
    pub fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let (base, cause) = (&self.base, chain(error));
        let way_out = "is the daemon running, and is this its address? See --config and --api";
        Failure::new(Kind::Unreachable, format!("cannot ask {base}: {cause}: {way_out}"))
    }

    fn no_framehaul(&self) -> Failure {
        let detail = format!("{} answers, but not as framehaul does: correct --api or `http.listen`", self.base);
        Failure::new(Kind::Unreachable, detail)
    }
}

fn kind_of(status: StatusCode) -> Kind {
    match status.as_u16() {
        404 => Kind::NotFound,
        412 => Kind::Precondition,
        401 | 403 | 421 => Kind::Forbidden,
        429 | 503 => Kind::NotNow,
        400..=499 => Kind::Refused,
        _ => Kind::Broken,
    }
}

/// The causes of an error without its URL, outermost first; each is said once.
fn chain(error: &reqwest::Error) -> String {
    let mut source = std::error::Error::source(error);
    let mut text = match (error.is_timeout(), source) {
        (true, _) => "no answer in time".to_owned(),
        (false, None) => "the request failed".to_owned(),
        (false, Some(_)) => String::new(),
    };
    while let Some(error) = source {
        let said = error.to_string();
        if !text.contains(&said) {
            text = if text.is_empty() { said } else { format!("{text}: {said}") };
        }
        source = error.source();
    }
    text
}

/// The daemon of the configuration: where it listens, or with port 0 where it says that it does.
fn configured_base(settings: &Settings) -> Result<String, Failure> {
    let address = match settings.listen.port() {
        0 => {
            let file = settings.state_dir.join("http.addr");
            let text = std::fs::read_to_string(&file).map_err(|error| {
                let detail =
                    format!("`http.listen` has port 0, and {} does not say which it is: {error}", file.display());
                Failure::new(Kind::Unreachable, format!("{detail}: is the daemon running?"))
            })?;
            let broken = |_| Failure::new(Kind::Config, format!("{} holds no address", file.display()));
            text.trim().parse::<SocketAddr>().map_err(broken)?
        }
        _ => settings.listen,
    };
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(format!("http://{}", SocketAddr::new(ip, address.port())))
}

fn read_base(api: &str) -> Result<String, Failure> {
    let wrong = |detail: &str| Failure::new(Kind::Usage, format!("--api {detail}: write http://HOST:PORT"));
    let url = Url::parse(api).map_err(|_| wrong("is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("is no URL of HTTP"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("holds more than an address"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_an_address() {
        assert_eq!(read_base("http://10.0.0.1:8080/").unwrap(), "http://10.0.0.1:8080");
        assert_eq!(read_base("https://proxy.example/framehaul").unwrap(), "https://proxy.example/framehaul");
        for wrong in ["", "10.0.0.1:8080", "ftp://h/", "file:///x", "http://u:s3cret@h/", "http://h/?x=s3cret"] {
            let Failure::Failed(Kind::Usage, message) = read_base(wrong).unwrap_err() else { panic!("{wrong}") };
            assert!(!message.contains("s3cret"), "{message}");
        }
    }
}
