//! One environment variable as a layer of the configuration.

use figment::error::Error as FigmentError;
use figment::util::nest;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use kho_catalog::error::{Error, Kind, Result};

/// `KHO_PG__LISTEN=…` sets the key `pg.listen`.
pub(super) struct Variable {
    name: String,
    key: String,
    value: Value,
}

impl Variable {
    /// The variable `name`, whose part after the prefix is `rest`.
    ///
    /// A key that holds text takes the value as it is written; any other is read as a number or a
    /// truth value first. So a data folder may be called `2026`.
    pub fn new(name: &str, rest: &str, value: String, below: &Figment) -> Result<Variable> {
        let parts: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
        if parts.iter().any(String::is_empty) {
            let message = format!("environment variable {name} names no key");
            return Err(Error::new(Kind::ConfigFile, message)
                .with_hint("Write KHO_KEY or KHO_SECTION__KEY."));
        }
        let key = parts.join(".");
        let value = match below.find_value(&key) {
            Ok(Value::String(..) | Value::Empty(..)) => Value::from(value),
            Ok(_) | Err(_) => match value.parse::<Value>() {
                Ok(value) => value,
                Err(never) => match never {},
            },
        };
        Ok(Variable { name: name.to_owned(), key, value })
    }
}

impl Provider for Variable {
    fn metadata(&self) -> Metadata {
        Metadata::named(format!("environment variable {}", self.name))
    }

    fn data(&self) -> std::result::Result<Map<Profile, Dict>, FigmentError> {
        let nested = nest(&self.key, self.value.clone());
        let dict = nested.into_dict().ok_or_else(|| {
            FigmentError::from(format!("environment variable {} names no key", self.name))
        })?;
        Ok(Profile::Default.collect(dict))
    }
}
