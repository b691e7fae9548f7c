//! Who is let in.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use testbed::nvr::{Challenge, Expiry, Knobs, Logins};

use crate::client::{Client, all, recorder};

const CHECK: &str = "/ISAPI/Security/userCheck";

fn with(knobs: Knobs) -> (testbed::nvr::NvrServer, Client) {
    let server = recorder(0, knobs);
    let client = Client::of(&server);
    (server, client)
}

#[test]
fn a_challenge_looks_like_a_recorders() {
    let (_server, mut client) = with(Knobs::default());
    let reply = client.once("GET", CHECK, None, "");
    assert_eq!((reply.status, reply.all("statusValue").concat()), (401, "401".into()));
    assert_eq!(reply.all("statusString"), ["Unauthorized"]);
    assert_eq!(reply.all("lockStatus").len(), 0);
    let [challenge] = reply.challenges()[..] else { panic!("{reply:?}") };
    for part in
        ["Digest realm=\"", "domain=\"::\", qop=\"auth\", nonce=\"", "opaque=\"\", algorithm=\"MD5\", stale=\"FALSE\""]
    {
        assert!(challenge.contains(part), "{challenge}");
    }
    // The connection goes on, and so does a request's body that came without a login.
    assert_eq!(all(&client.get(CHECK).ok(), "statusValue"), ["200"]);
    assert_eq!(client.call("POST", "/ISAPI/ContentMgmt/search", &"x".repeat(100_000)).refusal().0, 400);
}

#[test]
fn a_password_may_be_changed_while_it_runs() {
    let (server, mut client) = with(Knobs::default());
    client.get(CHECK).ok();
    server.change_password("another");
    assert_eq!((client.get(CHECK).status, server.stats().logins.wrong), (401, 1));
    server.change_password("Passw0rd1");
    client.get(CHECK).ok();
}

#[test]
fn challenges_are_those_that_were_chosen() {
    for (challenge, no_qop, expected) in [
        (Challenge::Unnamed, false, &[("Digest", None)][..]),
        (Challenge::Md5, true, &[("Digest", Some("MD5"))]),
        (Challenge::Sha256, false, &[("Digest", Some("SHA-256"))]),
        (Challenge::Md5Sha256, false, &[("Digest", Some("MD5")), ("Digest", Some("SHA-256"))]),
        (Challenge::Sha256Md5, true, &[("Digest", Some("SHA-256")), ("Digest", Some("MD5"))]),
        (Challenge::DigestBasic, false, &[("Digest", Some("MD5")), ("Basic", None)]),
    ] {
        let (_server, mut client) = with(Knobs { challenge, no_qop, ..Knobs::default() });
        let reply = client.once("GET", CHECK, None, "");
        let challenges: Vec<String> = reply.challenges().into_iter().map(str::to_owned).collect();
        assert_eq!(challenges.len(), expected.len(), "{challenges:?}");
        for (header, (scheme, algorithm)) in challenges.iter().zip(expected) {
            assert!(header.starts_with(scheme), "{header}");
            assert_eq!(header.contains("qop="), *scheme == "Digest" && !no_qop, "{header}");
            match algorithm {
                Some(name) => assert!(header.contains(&format!("algorithm=\"{name}\"")), "{header}"),
                None => assert!(!header.contains("algorithm"), "{header}"),
            }
            if *scheme == "Digest" {
                let login = client.sign(header, "GET", CHECK);
                client.once("GET", CHECK, Some(&login), "").ok();
            }
        }
        let basic = format!("Basic {}", BASE64_STANDARD.encode("admin:Passw0rd1"));
        let status = client.once("GET", CHECK, Some(&basic), "").status;
        assert_eq!(status == 200, challenge == Challenge::DigestBasic, "{challenge:?}");
    }
}

#[test]
fn a_nonce_goes_with_its_algorithm_its_method_and_its_target() {
    let (server, mut client) = with(Knobs { challenge: Challenge::Md5Sha256, ..Knobs::default() });
    let reply = client.once("GET", CHECK, None, "");
    let [md5, sha256] = reply.challenges()[..] else { panic!("{reply:?}") };
    let nonce = |header: &str| header.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let mixed = sha256.replace(&nonce(sha256), &nonce(md5));
    for login in [
        client.sign(&mixed, "GET", CHECK),
        client.sign(md5, "POST", CHECK),
        client.sign(md5, "GET", "/ISAPI/Security"),
        client.sign(md5, "GET", CHECK).replace("admin", "root"),
    ] {
        assert_eq!(client.once("GET", CHECK, Some(&login), "").status, 401, "{login}");
    }
    assert_eq!(server.stats().logins, Logins { challenged: 1, wrong: 4, ..Logins::default() });
}

#[test]
fn a_nonce_is_used_up_in_three_ways() {
    for (expiry, stale) in [
        (Expiry::Stale, Some("stale=\"TRUE\"")),
        (Expiry::AsWrong, Some("stale=\"FALSE\"")),
        (Expiry::NoChallenge, None),
    ] {
        let knobs = Knobs { nonce_uses: Some(2), expiry, lock_after: Some(1), ..Knobs::default() };
        let (server, mut client) = with(knobs);
        let login = client.login("GET", CHECK, "");
        for status in [200, 200, 401] {
            let reply = client.once("GET", CHECK, login.as_deref(), "");
            assert_eq!(reply.status, status, "{expiry:?}");
            if status == 401 {
                let told = reply.challenges().first().map(|challenge| challenge.to_string());
                assert_eq!(told.is_some(), stale.is_some(), "{expiry:?}");
                assert!(told.unwrap_or_default().contains(stale.unwrap_or_default()), "{expiry:?}");
                assert_eq!(reply.body.is_empty(), stale.is_none(), "{expiry:?}");
            }
        }
        // A used nonce is no wrong password: nobody is locked out for it.
        client.get(CHECK).ok();
        let logins = server.stats().logins;
        assert_eq!((logins.expired, logins.wrong, logins.locked), (1, 0, 0));
    }
}

#[test]
fn wrong_passwords_lock_an_address_out_for_a_time() {
    let (server, mut client) = with(Knobs { lock_after: Some(3), lock_s: 1500.5, ..Knobs::default() });
    let check = |client: &mut Client, password: &str| {
        client.password = password.into();
        client.get(CHECK)
    };
    let told = |reply: &crate::client::Reply| {
        ["lockStatus", "retryLoginTime", "unlockTime"].map(|name| reply.all(name).concat())
    };
    assert_eq!(told(&check(&mut client, "x")), ["unlock", "2", ""]);
    assert_eq!(told(&check(&mut client, "x")), ["unlock", "1", ""]);
    // A right one in between starts the count again.
    check(&mut client, "Passw0rd1").ok();
    for left in ["2", "1"] {
        assert_eq!(told(&check(&mut client, "x"))[1], left);
    }
    assert_eq!(told(&check(&mut client, "x")), ["lock", "0", "1501"]);
    let reply = check(&mut client, "Passw0rd1");
    assert_eq!((reply.status, told(&reply)[0].as_str()), (401, "lock"));
    let logins = server.stats().logins;
    assert_eq!((logins.wrong, logins.locked), (5, 2));
}

#[test]
fn a_lock_ends_by_itself() {
    let (server, mut client) = with(Knobs { lock_after: Some(1), lock_s: 0.2, ..Knobs::default() });
    let begun = std::time::Instant::now();
    client.password = "x".into();
    assert_eq!(client.get(CHECK).all("lockStatus"), ["lock"]);
    client.password = "Passw0rd1".into();
    while client.get(CHECK).status != 200 {
        assert!(begun.elapsed().as_secs() < 20, "it does not end");
    }
    assert!(begun.elapsed().as_millis() >= 200, "it was none");
    assert_eq!(server.stats().logins.wrong, 1);
}

#[test]
fn some_look_at_the_body_first() {
    let (server, mut client) = with(Knobs { body_before_login: true, ..Knobs::default() });
    let reply = client.once("POST", "/ISAPI/ContentMgmt/search", None, "");
    assert_eq!((reply.refusal(), reply.challenges().len()), ((400, "badXmlContent".into()), 0));
    assert_eq!(client.once("POST", "/ISAPI/ContentMgmt/search", None, "<a/>").challenges().len(), 1);
    server.change_knobs(|knobs| knobs.body_before_login = false).unwrap();
    assert_eq!(client.once("POST", "/ISAPI/ContentMgmt/search", None, "").challenges().len(), 1);
}

#[test]
fn good_answers_are_refused_as_used_up_and_passwords_may_be_wanted_as_they_are() {
    let (server, mut client) = with(Knobs { expire_next: 1, lock_after: Some(1), ..Knobs::default() });
    assert_eq!(client.get(CHECK).status, 401);
    client.get(CHECK).ok();
    assert_eq!((server.stats().logins.expired, server.stats().logins.wrong, server.knobs().expire_next), (1, 0, 0));
    server.change_knobs(|knobs| knobs.challenge = Challenge::Basic).unwrap();
    let reply = client.once("GET", CHECK, None, "");
    assert!(matches!(reply.challenges()[..], [one] if one.starts_with("Basic ")), "{reply:?}");
    let basic = format!("Basic {}", BASE64_STANDARD.encode("admin:Passw0rd1"));
    assert_eq!(client.once("GET", CHECK, Some(&basic), "").status, 200);
}
