//! The tokens that were handed out or shown, how old they are, and whether they are still good. Knows no HTTP.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// All tokens this server knows.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    known: HashMap<Box<str>, Known>,
    /// What the metadata server hands out until it expires, as the real one does.
    of_metadata: Option<String>,
}

#[derive(Debug)]
struct Known {
    since: Instant,
    lives: Duration,
    /// Whether somebody had it expire before its time.
    expired: bool,
}

/// Whether a token is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    Expired,
    Unknown,
}

impl Known {
    /// How long it is good; `most` is what nothing may outlive.
    fn rest(&self, most: Option<Duration>, now: Instant) -> Duration {
        let lives = most.map_or(self.lives, |most| most.min(self.lives));
        if self.expired { Duration::ZERO } else { lives.saturating_sub(now - self.since) }
    }
}

impl Tokens {
    pub(super) fn standing(&self, token: &str, most: Option<Duration>, now: Instant) -> Standing {
        match self.known.get(token) {
            None => Standing::Unknown,
            Some(known) if known.rest(most, now).is_zero() => Standing::Expired,
            Some(_) => Standing::Good,
        }
    }

    /// Takes note of a JWT whose signature is right. Its age counts from now: what it says of its birth is its client's
    /// word, and clients date it back for clocks that differ.
    pub(super) fn meet(&mut self, jwt: &str, lives: Duration, now: Instant) {
        self.known.insert(jwt.into(), Known { since: now, lives, expired: false });
    }

    /// Makes an access token.
    pub(super) fn issue(&mut self, lives: Duration, now: Instant) -> String {
        let token = format!("ya29.testbed-{:032x}", fastrand::u128(..));
        self.known.insert(token.as_str().into(), Known { since: now, lives, expired: false });
        token
    }

    /// The metadata server's token, how long it claims to live, and whether it is a new one.
    pub(super) fn of_metadata(
        &mut self,
        lives: Duration,
        most: Option<Duration>,
        now: Instant,
    ) -> (String, Duration, bool) {
        if let Some(token) = &self.of_metadata
            && self.standing(token, most, now) == Standing::Good
        {
            let claims = self.known.get(token.as_str()).map_or(Duration::ZERO, |known| known.rest(None, now));
            return (token.clone(), claims, false);
        }
        let token = self.issue(lives, now);
        self.of_metadata = Some(token.clone());
        (token, lives, true)
    }

    /// Makes all that were issued or shown so far expire.
    pub(super) fn expire_all(&mut self) {
        self.known.values_mut().for_each(|known| known.expired = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_token_expires_when_it_claims_to_or_when_it_is_told_to() {
        let mut tokens = Tokens::default();
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let token = tokens.issue(HOUR, begun);
        assert_eq!(tokens.standing("another", None, begun), Standing::Unknown);
        assert_eq!(tokens.standing(&token, None, at(3599)), Standing::Good);
        assert_eq!(tokens.standing(&token, None, at(3600)), Standing::Expired);
        let most = Some(Duration::from_secs(10));
        assert_eq!(tokens.standing(&token, most, at(9)), Standing::Good);
        assert_eq!(tokens.standing(&token, most, at(10)), Standing::Expired);
        tokens.expire_all();
        assert_eq!(tokens.standing(&token, None, begun), Standing::Expired);
        let other = tokens.issue(HOUR, begun);
        assert_eq!(tokens.standing(&other, None, begun), Standing::Good);
    }

    #[test]
    fn the_metadata_server_hands_out_one_token_until_it_expires() {
        let mut tokens = Tokens::default();
        let begun = Instant::now();
        let most = Some(Duration::from_secs(10));
        let (first, claims, new) = tokens.of_metadata(HOUR, most, begun);
        assert_eq!((claims, new), (HOUR, true));
        let later = begun + Duration::from_secs(9);
        assert_eq!(tokens.of_metadata(HOUR, most, later), (first.clone(), HOUR - Duration::from_secs(9), false));
        let (second, claims, new) = tokens.of_metadata(HOUR, most, begun + Duration::from_secs(10));
        assert_eq!((claims, new), (HOUR, true));
        assert_ne!(first, second);
        tokens.expire_all();
        assert_ne!(tokens.of_metadata(HOUR, None, later).0, second);
    }
}
