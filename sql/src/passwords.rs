//! Which passwords are good enough.
//!
//! What it guarantees: what is refused is refused before anything is made of it; no message quotes a
//! password.
//! What it does not: of a ready-made verifier there is nothing to see but whether it is the role's
//! name, or one of a few words that everyone tries; it can be refused as such.
//! On failure: `22023`, as PostgreSQL's `passwordcheck`.
//!
//! # Why a strength that is estimated
//! Rules on kinds of characters are met by `Password1!`. The estimate counts how many guesses somebody
//! needs who knows the words, names, dates and patterns that people use (zxcvbn, USENIX Security 2016).

use kho_catalog::error::{Error, Kind, Result};
use zxcvbn::{Score, zxcvbn};

use crate::scram::Verifier;

/// More would let one statement keep the server busy; PostgreSQL's own is 4096.
const MOST_ITERATIONS: u32 = 1_000_000;
/// A verifier is tried with these, when each try is cheap.
const TRIED: &[&str] = &["", "1", "123", "1234", "12345", "123456", "12345678", "123456789"];
const TRIED_WORDS: &[&str] = &["password", "qwerty", "admin", "kho", "letmein", "changeme"];
const TRIED_ITERATIONS: u32 = 20_000;

/// The operator's rules. The default is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// In characters.
    pub minimum_length: usize,
    /// zxcvbn's estimate, from 0 to 4.
    pub minimum_score: u8,
    /// Whether a password that contains the role's name is refused.
    pub refuse_role_name: bool,
    /// Whether a role can be given a verifier in place of a password.
    pub accept_verifiers: bool,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            minimum_length: 0,
            minimum_score: 0,
            refuse_role_name: false,
            accept_verifiers: true,
        }
    }
}

impl Rules {
    /// What is asked of passwords that are typed in from elsewhere.
    pub const STRICT: Rules = Rules {
        minimum_length: 8,
        minimum_score: 2,
        refuse_role_name: true,
        accept_verifiers: true,
    };

    /// Whether `role` may have this password.
    ///
    /// # Errors
    /// `22023`.
    pub fn check(&self, role: &str, password: &str) -> Result<()> {
        if password.chars().count() < self.minimum_length {
            return Err(weak("password is too short")
                .with_hint(format!("It has at least {} characters.", self.minimum_length)));
        }
        let (lower, name) = (password.to_lowercase(), role.to_lowercase());
        if self.refuse_role_name && lower.contains(&name) {
            return Err(weak("password must not contain user name"));
        }
        if self.minimum_score == 0 {
            return Ok(());
        }
        let estimate = zxcvbn(password, &[role, "kho"]);
        if score(estimate.score()) >= self.minimum_score {
            return Ok(());
        }
        let error = weak("password is easy to guess");
        let warning = estimate.feedback().and_then(|it| it.warning());
        let error = match warning {
            Some(warning) => error.with_detail(warning.to_string()),
            None => error,
        };
        Err(error.with_hint("Several words that do not belong together are hard to guess."))
    }

    /// The same for a verifier, of which little can be seen.
    ///
    /// # Errors
    /// `22023`, also where none is accepted.
    pub fn check_verifier(&self, role: &str, verifier: &str) -> Result<()> {
        let verifier = Verifier::parse(verifier)?;
        if verifier.iterations > MOST_ITERATIONS {
            let message = format!("a verifier has {MOST_ITERATIONS} iterations at most");
            return Err(weak(&message));
        }
        if !self.accept_verifiers {
            return Err(weak("a ready-made verifier is not accepted for a password")
                .with_detail("Its password cannot be checked.")
                .with_hint("Give the password itself, over a connection with TLS."));
        }
        let checks = self.refuse_role_name || self.minimum_length > 0 || self.minimum_score > 0;
        if !checks || verifier.iterations > TRIED_ITERATIONS {
            return Ok(());
        }
        let mut tried = [role].into_iter().chain(TRIED.iter().chain(TRIED_WORDS).copied());
        match tried.any(|password| verifier.matches(password)) {
            true => Err(weak("password is easy to guess")),
            false => Ok(()),
        }
    }
}

fn score(of: Score) -> u8 {
    match of {
        Score::Zero => 0,
        Score::One => 1,
        Score::Two => 2,
        Score::Three => 3,
        // The enumeration is open to more.
        _ => 4,
    }
}

fn weak(message: &str) -> Error {
    Error::new(Kind::InvalidParameterValue, message)
}

#[cfg(test)]
mod tests;
