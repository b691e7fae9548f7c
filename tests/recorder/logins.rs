//! Who is let in, and who is left alone.

use std::sync::Arc;
use std::time::Duration;

use framehaul::nvr::{Common, Recorder, RecorderError, RecorderErrorKind, open};
use secrecy::SecretString;
use testbed::nvr::{Challenge, Expiry, Knobs};

use crate::stage::{client, client_of, day, fetch, found, keys, names, recorder, settings};

#[tokio::test]
async fn quirk_05_and_06_every_challenge_is_answered_as_it_asks() {
    let server = recorder(3, Knobs::default());
    for no_qop in [false, true] {
        for challenge in [
            Challenge::Md5,
            Challenge::Unnamed,
            Challenge::Sha256,
            Challenge::Md5Sha256,
            Challenge::Sha256Md5,
            Challenge::DigestBasic,
        ] {
            server.change_knobs(|knobs| (knobs.challenge, knobs.no_qop) = (challenge, no_qop)).unwrap();
            let client = client(&server);
            let segments = found(&*client, day("101")).await.unwrap();
            assert_eq!(keys(&segments), names(&server, 101), "{challenge:?} {no_qop}");
            fetch(&*client, &segments[0]).await.unwrap();
        }
    }
    assert_eq!(server.stats().logins.wrong, 0);
}

fn is_too_soon(error: &RecorderError) -> bool {
    matches!(error.kind, RecorderErrorKind::TooSoon { .. })
}

#[tokio::test]
async fn a_password_goes_as_it_is_only_where_that_is_allowed() {
    let server = recorder(1, Knobs { challenge: Challenge::Basic, ..Knobs::default() });
    let error = client(&server).identify().await.unwrap_err();
    assert_eq!(error.kind, RecorderErrorKind::Auth, "{error}");
    assert_eq!((server.stats().logins.accepted, server.stats().logins.wrong), (0, 0));
    let allowed = framehaul::nvr::RecorderSettings { basic: true, ..settings(&server) };
    assert_eq!(found(&*client_of(allowed), day("101")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn odd_passwords_and_users_that_nobody_knows() {
    let password = "p@ss:w\"ö\\rd#/?";
    let options = testbed::nvr::Options {
        user: "a\"d\\min".into(),
        password: password.into(),
        ..testbed::nvr::Options::default()
    };
    let server = testbed::nvr::NvrServer::start(options).unwrap();
    let of = settings(&server);
    let error = client(&server).identify().await.unwrap_err();
    assert_eq!(error.kind, RecorderErrorKind::Auth);
    let right = framehaul::nvr::RecorderSettings { password: SecretString::from(password), ..of };
    let (text, debug) = (format!("{error}"), format!("{right:?}"));
    assert!(!text.contains("Passw0rd1") && !debug.contains(password), "{text} {debug}");
}

#[tokio::test]
async fn quirk_03_a_nonce_that_has_run_out_is_not_a_wrong_password() {
    for expiry in [Expiry::Stale, Expiry::NoChallenge] {
        let server = recorder(1, Knobs { nonce_uses: Some(1), expiry, ..Knobs::default() });
        let client = client(&server);
        client.identify().await.unwrap();
        // Each request has a nonce of its own: none has run out so far.
        assert_eq!(server.stats().logins.expired, 0);
        server.change_knobs(|knobs| knobs.expire_next = 1).unwrap();
        assert_eq!(found(&*client, day("101")).await.unwrap().len(), 1, "{expiry:?}");
        assert_eq!((server.stats().logins.expired, server.stats().logins.wrong), (1, 0));
        // One that never accepts anything is not asked for ever, and its user is not at fault.
        server.change_knobs(|knobs| knobs.expire_next = u32::MAX).unwrap();
        let requests = server.stats().requests;
        let error = client.tracks().await.unwrap_err();
        assert!(matches!(error.kind, RecorderErrorKind::Busy { .. }), "{error}");
        assert!(server.stats().requests - requests <= 4, "{}", server.stats().requests - requests);
    }
}

#[tokio::test]
async fn quirk_03_a_password_that_was_never_good_is_tried_once_more_and_not_again() {
    for expiry in [Expiry::NoChallenge, Expiry::Stale] {
        let server = recorder(1, Knobs { expiry, expire_next: u32::MAX, ..Knobs::default() });
        let client = client(&server);
        assert_eq!(client.identify().await.unwrap_err().kind, RecorderErrorKind::Auth);
        for _ in 0..8 {
            assert!(is_too_soon(&client.identify().await.unwrap_err()));
        }
        assert_eq!(server.stats().logins.expired, 2, "{expiry:?}");
    }
}

#[tokio::test]
async fn quirk_03_refused_right_after_it_was_good_a_password_is_not_wrong() {
    let server = recorder(1, Knobs { expiry: Expiry::AsWrong, ..Knobs::default() });
    let client = client(&server);
    client.identify().await.unwrap();
    server.change_knobs(|knobs| knobs.expire_next = 1).unwrap();
    let error = client.tracks().await.unwrap_err();
    assert!(matches!(error.kind, RecorderErrorKind::Busy { retry_after: Some(_) }), "{error}");
}

#[tokio::test]
async fn quirk_04_sixteen_channels_with_a_wrong_password_are_one_attempt() {
    let server = recorder(1, Knobs { lock_after: Some(5), ..Knobs::default() });
    let common = Arc::new(Common::default());
    let wrong = framehaul::nvr::RecorderSettings { password: "wrong".to_owned().into(), ..settings(&server) };
    let clients: Vec<Arc<dyn Recorder>> = (0..16).map(|_| open(wrong.clone(), &common).unwrap()).collect();
    let asked = clients.iter().map(|client| async { client.identify().await.unwrap_err() });
    let errors = futures_util::future::join_all(asked).await;
    // The one that was refused says so, and the others that they have sent nothing.
    assert_eq!(errors.iter().filter(|error| error.kind == RecorderErrorKind::Auth).count(), 1, "{errors:?}");
    assert_eq!(errors.iter().filter(|error| is_too_soon(error)).count(), 15, "{errors:?}");
    assert_eq!(server.stats().logins.wrong, 1);
    // The same again is not sent; the right one is, at once.
    let requests = server.stats().requests;
    assert!(is_too_soon(&clients[0].tracks().await.unwrap_err()));
    assert_eq!(server.stats().requests, requests);
    open(settings(&server), &common).unwrap().identify().await.unwrap();
    assert_eq!(server.stats().logins.wrong, 1);
}

#[tokio::test]
async fn quirk_04_sixteen_channels_whose_password_is_changed_are_three_attempts_at_most() {
    let server = recorder(1, Knobs { lock_after: Some(5), ..Knobs::default() });
    let common = Arc::new(Common::default());
    let clients: Vec<Arc<dyn Recorder>> = (0..16).map(|_| open(settings(&server), &common).unwrap()).collect();
    for client in &clients {
        client.identify().await.unwrap();
    }
    server.change_password("another");
    let asked = clients.iter().map(|client| async { client.tracks().await.unwrap_err() });
    let errors = futures_util::future::join_all(asked).await;
    assert!(errors.iter().any(|error| error.kind == RecorderErrorKind::Auth), "{errors:?}");
    let logins = server.stats().logins;
    assert!((1..=3).contains(&logins.wrong) && logins.locked == 0, "{logins:?}");
}

#[tokio::test]
async fn quirk_04_a_player_that_is_refused_counts_with_all_other_logins() {
    let server = recorder(1, Knobs::default());
    let common = Arc::new(Common::default());
    let client = open(settings(&server), &common).unwrap();
    // Let in, it holds nobody up, however long it goes on.
    let mut first = client.admit().await.unwrap();
    first.goes_on();
    client.identify().await.unwrap();
    first.goes_on();
    // Refused, another client of the same login sends nothing, and no other player does.
    let wrong = framehaul::nvr::RecorderSettings { password: "wrong".to_owned().into(), ..settings(&server) };
    let [player, other] = [(); 2].map(|()| open(wrong.clone(), &common).unwrap());
    assert_eq!(player.admit().await.unwrap().refused().kind, RecorderErrorKind::Auth);
    let requests = server.stats().requests;
    assert!(is_too_soon(&player.admit().await.unwrap_err()));
    assert!(is_too_soon(&other.identify().await.unwrap_err()));
    assert_eq!(server.stats().requests, requests);
    // One that was let in a moment ago is refused for want of room.
    let error = client.admit().await.unwrap().refused();
    assert!(matches!(error.kind, RecorderErrorKind::Busy { .. }), "{error}");
}

#[tokio::test]
async fn quirk_04_wrong_passwords_do_not_lock_us_out_whoever_tries_them() {
    let server = recorder(1, Knobs { lock_after: Some(5), ..Knobs::default() });
    let common = Arc::new(Common::default());
    for number in 0..16 {
        let password = format!("guess {number}").into();
        let of = framehaul::nvr::RecorderSettings { password, ..settings(&server) };
        let error = open(of, &common).unwrap().identify().await.unwrap_err();
        assert!(error.kind == RecorderErrorKind::Auth || is_too_soon(&error), "{error}");
    }
    assert!(server.stats().logins.wrong <= 3, "{:?}", server.stats().logins);
}

#[tokio::test]
async fn quirk_04_a_locked_recorder_is_left_alone_until_its_time() {
    let server = recorder(1, Knobs { lock_after: Some(1), lock_s: 4.0, ..Knobs::default() });
    let common = Arc::new(Common::default());
    let wrong = framehaul::nvr::RecorderSettings { password: "wrong".to_owned().into(), ..settings(&server) };
    let error = open(wrong, &common).unwrap().identify().await.unwrap_err();
    let RecorderErrorKind::Locked { until } = error.kind else { panic!("{error}") };
    // Whoever it is, nothing is sent.
    let right = open(settings(&server), &common).unwrap();
    let requests = server.stats().requests;
    let kind = right.identify().await.unwrap_err().kind;
    let RecorderErrorKind::Locked { until: again } = kind else { panic!("{kind:?}") };
    // It is told by the clock of that moment.
    assert!(again.since(until).max(until.since(again)) < Duration::from_millis(100), "{again:?}, {until:?}");
    assert_eq!(server.stats().requests, requests);
    let now = framehaul::model::UnixMicros::now();
    tokio::time::sleep(until.since(now) + Duration::from_millis(10)).await;
    right.identify().await.unwrap();
    assert_eq!((server.stats().logins.wrong, server.stats().logins.locked), (1, 0));
}

#[tokio::test]
async fn quirk_04_somebody_elses_lock_is_seen_before_a_password_is_sent() {
    let server = recorder(1, Knobs { lock_after: Some(1), ..Knobs::default() });
    let wrong = framehaul::nvr::RecorderSettings { password: "wrong".to_owned().into(), ..settings(&server) };
    let error = client_of(wrong).identify().await.unwrap_err();
    assert!(matches!(error.kind, RecorderErrorKind::Locked { .. }));
    // Another process, which knows nothing of the first.
    let error = client(&server).identify().await.unwrap_err();
    assert!(matches!(error.kind, RecorderErrorKind::Locked { .. }), "{error}");
    let logins = server.stats().logins;
    assert_eq!((logins.wrong, logins.accepted, logins.locked), (1, 0, 1));
}

#[tokio::test]
async fn the_whole_body_comes_with_the_first_request() {
    let server = recorder(1, Knobs { body_before_login: true, ..Knobs::default() });
    assert_eq!(found(&*client(&server), day("101")).await.unwrap().len(), 1);
    server.log_exchanges();
    let client = client(&server);
    let segments = found(&*client, day("101")).await.unwrap();
    fetch(&*client, &segments[0]).await.unwrap();
    let exchanges = server.exchanges();
    assert!(exchanges.iter().any(|of| of.target.ends_with("/download")));
    for pair in exchanges.chunks(2) {
        let [first, second] = pair else { panic!("{exchanges:?}") };
        assert_eq!((first.login, first.status, second.login), (false, 401, true));
        assert_eq!((&first.method, &first.target, &first.body), (&second.method, &second.target, &second.body));
    }
}

#[tokio::test]
async fn quirk_24_nothing_stands_behind_a_question_mark_where_it_might_be_ignored() {
    let server = recorder(1, Knobs { time_type: true, ..Knobs::default() });
    server.log_exchanges();
    let client = client(&server);
    let segments = found(&*client, day("101")).await.unwrap();
    fetch(&*client, &segments[0]).await.unwrap();
    client.tracks().await.unwrap();
    let exchanges = server.exchanges();
    assert!(exchanges.len() > 10 && exchanges.iter().all(|of| !of.target.contains('?')), "{exchanges:?}");
}
