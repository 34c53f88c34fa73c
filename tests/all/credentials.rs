//! By what else than a password one logs in, and how far that goes: over the real wire.

mod attacks;
mod certificates;
mod oidc;
mod passwords;
mod tokens;

use kho_tests::kho::Kho;
use kho_tests::wire::{Error, Wire};

/// What a client says that wants to give a token.
const BY_TOKEN: (&str, &str) = ("kho.authentication", "token");

/// A Kho with `o.t` and `o.secret` of `officer`, which `an` reads and writes, and `o.view` on the
/// latter; and an auditor.
fn city() -> Kho {
    let kho = Kho::start();
    let mut admin = kho.admin();
    admin.run("CREATE ROLE officer LOGIN PASSWORD 'officer'");
    admin.run("CREATE ROLE an LOGIN PASSWORD 'an'");
    admin.run("CREATE ROLE auditor LOGIN PASSWORD 'auditor' IN ROLE kho_auditor");
    admin.run("CREATE SCHEMA o AUTHORIZATION officer");
    let mut officer = kho.connect("officer");
    officer.run("CREATE TABLE o.t (id bigint)");
    officer.run("INSERT INTO o.t VALUES (1), (2)");
    officer.run("CREATE TABLE o.secret (id bigint)");
    officer.run("INSERT INTO o.secret VALUES (7)");
    officer.run("CREATE VIEW o.view AS SELECT id FROM o.secret");
    officer.run("GRANT USAGE ON SCHEMA o TO an");
    officer.run("GRANT SELECT, INSERT, UPDATE, DELETE ON o.t, o.secret TO an");
    officer.run("GRANT SELECT ON o.view TO an");
    kho
}

/// A token of `role`, made by itself; `more` are further arguments.
fn token(kho: &Kho, role: &str, name: &str, more: &str) -> String {
    let call = format!(
        "CALL kho.create_api_token(name => '{name}', \
         valid_until => (now() + interval '1 day'), {more})"
    );
    kho.connect(role).value(&call)
}

fn by_token(kho: &Kho, role: &str, token: &str) -> Result<Wire, Error> {
    Wire::connect_with(&kho.target(role, token), &[BY_TOKEN])
}

fn refused_token(kho: &Kho, role: &str, token: &str) -> (String, String) {
    match by_token(kho, role, token) {
        Err(Error::Server(error)) => (error.sqlstate, error.message),
        Err(Error::Io(error)) => panic!("{role}: {error}"),
        Ok(_) => panic!("{role} was let in"),
    }
}
