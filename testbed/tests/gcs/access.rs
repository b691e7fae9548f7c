//! Bearer tokens, the service account's key, and the metadata server.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use testbed::gcs::{AuthStats, GcsServer, Knobs, Options};

use crate::client::{Client, OBJECTS, Reply, UPLOAD, server_with};

const TOKEN: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";

fn strict() -> GcsServer {
    server_with(Options { knobs: Knobs { require_auth: true, ..Knobs::default() }, ..Options::default() })
}

/// Lists the bucket with a token.
fn list(client: &mut Client, token: &str) -> Reply {
    client.call("GET", OBJECTS, &[("authorization", &format!("Bearer {token}"))], b"")
}

fn metadata(client: &mut Client, path: &str) -> Reply {
    client.call("GET", path, &[("metadata-flavor", "Google")], b"")
}

fn metadata_token(client: &mut Client) -> (String, u64) {
    let reply = metadata(client, TOKEN);
    assert_eq!(reply.headers["metadata-flavor"], "Google");
    let json = reply.ok();
    assert_eq!(json["token_type"], "Bearer");
    (json["access_token"].as_str().unwrap().to_owned(), json["expires_in"].as_u64().unwrap())
}

/// What a client makes of a key file: a JWT with these claims beside the usual ones.
fn jwt(key: &Value, claims: &Value) -> String {
    let pem: String = key["private_key"].as_str().unwrap().lines().filter(|line| !line.starts_with('-')).collect();
    let pair = KeyPair::from_pkcs8(&BASE64_STANDARD.decode(pem).unwrap()).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let email = &key["client_email"];
    let mut all = json!({"iss": email, "sub": email, "iat": now - 10, "exp": now + 3600});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    let encode = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": key["private_key_id"]});
    let signed = format!("{}.{}", encode(&header), encode(&all));
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn every_storage_call_needs_a_token() {
    let server = strict();
    let mut client = Client::of(&server);
    let (token, _) = metadata_token(&mut client);
    let calls = [
        ("POST", format!("{UPLOAD}?uploadType=media&name=x"), 200),
        ("POST", format!("{UPLOAD}?uploadType=resumable&name=y"), 200),
        ("PUT", format!("{UPLOAD}?upload_id=x"), 410),
        ("DELETE", format!("{UPLOAD}?upload_id=x"), 410),
        ("GET", "/storage/v1/b/frames".to_owned(), 200),
        ("GET", OBJECTS.to_owned(), 200),
        ("GET", format!("{OBJECTS}/x"), 200),
        ("GET", format!("{OBJECTS}/x?alt=media"), 200),
        ("DELETE", format!("{OBJECTS}/x"), 204),
    ];
    let bearer = format!("Bearer {token}");
    for headers in [&[][..], &[("authorization", "Bearer ya29.wrong")], &[("authorization", "Basic YTpi")]] {
        for (method, path, _) in &calls {
            let reply = client.call(method, path, headers, b"");
            assert_eq!(reply.status, 401, "{method} {path}");
            assert!(reply.headers["www-authenticate"].starts_with("Bearer"), "{method} {path}");
        }
    }
    assert!(server.objects("frames").is_empty());
    for (method, path, status) in &calls {
        assert_eq!(client.call(method, path, &[("authorization", &bearer)], b"").status, *status, "{method} {path}");
    }
    assert_eq!(client.get(OBJECTS).json()["error"]["errors"][0]["location"], "Authorization");
    let expected = AuthStats {
        accepted: calls.len() as u64,
        refused_missing: 2 * calls.len() as u64 + 1,
        refused_expired: 0,
        refused_invalid: calls.len() as u64,
        tokens_issued: 1,
        jwts_met: 0,
    };
    assert_eq!(server.stats().auth, expected);
    client.set_knobs(&json!({"require_auth": false}));
    client.get(OBJECTS).ok();
    assert_eq!(server.stats().auth, expected, "nobody is counted who was not asked");
}

#[test]
fn the_metadata_server_answers_those_who_know_it() {
    let server = strict();
    let mut client = Client::of(&server);
    assert_eq!(server.metadata_host(), server.endpoint().strip_prefix("http://").unwrap());
    let default = "/computeMetadata/v1/instance/service-accounts/default";
    assert_eq!(client.get(TOKEN).status, 403);
    for (path, body) in [
        (format!("{default}/email"), "hauler@testbed.iam.gserviceaccount.com"),
        (format!("{default}/scopes"), "https://www.googleapis.com/auth/cloud-platform"),
        ("/computeMetadata/v1/universe/universe-domain".to_owned(), "googleapis.com"),
        ("/computeMetadata/v1/project/project-id".to_owned(), "testbed"),
    ] {
        let reply = metadata(&mut client, &path);
        assert_eq!((reply.status, reply.body.as_slice()), (200, body.as_bytes()), "{path}");
        assert_eq!(reply.headers["metadata-flavor"], "Google", "{path}");
    }
    assert_eq!(metadata(&mut client, "/").status, 200);
    assert_eq!(metadata(&mut client, "/computeMetadata/v1/nothing").status, 404);
    let account = metadata(&mut client, &format!("{default}/?recursive=true")).ok();
    assert_eq!(account["email"], "hauler@testbed.iam.gserviceaccount.com");
    let (token, lives) = metadata_token(&mut client);
    assert_eq!(lives, 3600);
    assert_eq!(metadata_token(&mut client).0, token, "the same one until it expires");
    list(&mut client, &token).ok();
    client.set_knobs(&json!({"refuse_tokens_status": 503}));
    assert_eq!(metadata(&mut client, TOKEN).status, 503);
    assert_eq!(client.stats().injected.tokens_refused, 1);
}

#[test]
fn tokens_expire_when_they_are_told_to_whatever_they_claim() {
    let server = strict();
    let key: Value = serde_json::from_str(&server.service_account_key()).unwrap();
    let mut client = Client::of(&server);
    let jwt = jwt(&key, &json!({"scope": SCOPE}));
    let (token, _) = metadata_token(&mut client);
    for token in [&jwt, &token] {
        list(&mut client, token).ok();
    }
    server.expire_tokens();
    for token in [&jwt, &token] {
        assert_eq!(list(&mut client, token).error(401), "authError");
    }
    let (second, _) = metadata_token(&mut client);
    list(&mut client, &second).ok();
    client.call("POST", "/_testbed/expire-tokens", &[], b"").ok();
    assert_eq!(list(&mut client, &second).error(401), "authError");

    let (third, _) = metadata_token(&mut client);
    list(&mut client, &third).ok();
    client.set_knobs(&json!({"expire_tokens_after_s": 0}));
    assert_eq!(list(&mut client, &third).error(401), "authError");
    client.set_knobs(&json!({"expire_tokens_after_s": 3600}));
    list(&mut client, &third).ok();

    client.call("POST", "/_testbed/expire-tokens", &[], b"").ok();
    client.set_knobs(&json!({"token_lifetime_s": 0}));
    let (fourth, lives) = metadata_token(&mut client);
    assert_eq!(lives, 0);
    assert_eq!(list(&mut client, &fourth).error(401), "authError");
    let auth = server.stats().auth;
    assert_eq!((auth.refused_expired, auth.refused_invalid, auth.tokens_issued), (5, 0, 4));
}

#[test]
fn jwts_of_the_account_are_good_and_others_are_not() {
    let server = strict();
    let mut client = Client::of(&server);
    let other: Value = serde_json::from_str(&strict().service_account_key()).unwrap();
    assert_eq!(list(&mut client, &jwt(&other, &json!({"scope": SCOPE}))).error(401), "authError", "no account yet");
    let key: Value = serde_json::from_str(&server.service_account_key()).unwrap();
    assert_eq!(client.get("/_testbed/key").ok(), key);
    assert_eq!(list(&mut client, &jwt(&other, &json!({"scope": SCOPE}))).error(401), "authError", "another account");
    list(&mut client, &jwt(&key, &json!({"scope": SCOPE}))).ok();
    list(&mut client, &jwt(&key, &json!({"aud": "https://storage.googleapis.com/"}))).ok();
    assert_eq!(list(&mut client, &jwt(&key, &json!({"aud": "https://pubsub.googleapis.com/"}))).status, 401);
    assert_eq!(list(&mut client, &jwt(&key, &json!({"scope": SCOPE, "exp": 1_000_000_000}))).status, 401);
    let auth = server.stats().auth;
    assert_eq!((auth.accepted, auth.refused_expired, auth.refused_invalid), (2, 1, 3));
}

#[test]
fn an_assertion_is_exchanged_for_a_token() {
    let server = strict();
    let mut client = Client::of(&server);
    let key: Value = serde_json::from_str(&server.service_account_key()).unwrap();
    let uri = key["token_uri"].as_str().unwrap();
    let path = uri.strip_prefix(&server.endpoint()).unwrap().to_owned();
    let mut exchange = |grant: &str, assertion: &str| {
        let form = format!("grant_type={grant}&assertion={assertion}");
        client.call("POST", &path, &[("content-type", "application/x-www-form-urlencoded")], form.as_bytes())
    };
    let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
    let good = jwt(&key, &json!({"aud": uri, "scope": SCOPE}));
    let answer = exchange(grant, &good).ok();
    assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(3600)));
    for (grant, assertion, error) in [
        ("password", good.as_str(), "unsupported_grant_type"),
        (grant, "", "invalid_grant"),
        (grant, &jwt(&key, &json!({"scope": SCOPE})), "invalid_grant"),
        (grant, &jwt(&key, &json!({"aud": uri, "scope": SCOPE, "exp": 1_000_000_000})), "invalid_grant"),
    ] {
        let reply = exchange(grant, assertion);
        assert_eq!((reply.status, &reply.json()["error"]), (400, &json!(error)));
    }
    list(&mut client, answer["access_token"].as_str().unwrap()).ok();
    assert_eq!(list(&mut client, &good).status, 401, "an assertion is no access token");
    assert_eq!(server.stats().requests.token_exchange, 5);
}

#[test]
fn the_program_writes_a_key_file_that_it_accepts() {
    let path = std::env::temp_dir().join(format!("testbed-key-{}.json", std::process::id()));
    let mut program = Command::new(env!("CARGO_BIN_EXE_testbed"))
        .args(["gcs", "--bucket", "frames", "--require-auth", "--until-stdin-closes", "--key-file"])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    let key: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(mode & 0o777, 0o600);
    let mut client = Client::at(line["endpoint"].as_str().unwrap());
    assert_eq!(client.get(OBJECTS).error(401), "required");
    list(&mut client, &jwt(&key, &json!({"scope": SCOPE}))).ok();
    drop(program.stdin.take());
    assert!(program.wait().unwrap().success());
}
