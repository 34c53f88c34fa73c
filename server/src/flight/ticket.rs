//! What a client is given to hold, and cannot read, make or change: bearer tokens and tickets.
//!
//! What it guarantees: what opens was sealed by this server (AES-256-GCM), for this use, and its time
//! is not over. A ticket says whose it is; whoever opens it checks that.
//! What it does not: it keeps no list of what was given. A ticket can be used again until it ends.
//! On failure: `None`, without a reason: whoever made it up is told nothing.

use kho_catalog::error::{Error, Result};
use prost::Message;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use uuid::Uuid;

/// Seals and opens, with a key that no other server needs to have.
pub struct Sealer(LessSafeKey);

/// What a sealed text is for; one is not taken for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Bearer,
    Ticket,
}

/// Lets a client be known by its calls.
#[derive(Clone, PartialEq, Message)]
pub struct Bearer {
    #[prost(bytes = "vec", tag = "1")]
    pub client: Vec<u8>,
    #[prost(int64, tag = "2")]
    pub until_ms: i64,
}

/// Rows to be had.
#[derive(Clone, PartialEq, Message)]
pub struct Ticket {
    /// Names the statement, to cancel it.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// The role whose it is, by oid.
    #[prost(uint32, tag = "2")]
    pub role: u32,
    #[prost(int64, tag = "3")]
    pub until_ms: i64,
    /// Names a transaction, of the client that began it.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub transaction: Option<Vec<u8>>,
    #[prost(oneof = "Rows", tags = "5, 6, 7, 8")]
    pub rows: Option<Rows>,
    /// What was told of the rows: no others are given.
    #[prost(bytes = "vec", tag = "9")]
    pub schema: Vec<u8>,
}

/// A query, and what its names were looked up by when it was told of: by another path they may be those
/// of other tables.
#[derive(Clone, PartialEq, Message)]
pub struct Query {
    #[prost(string, tag = "1")]
    pub text: String,
    #[prost(string, tag = "2")]
    pub search_path: String,
}

/// Where the rows of a ticket are.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Rows {
    /// A query, to be run.
    #[prost(message, tag = "5")]
    Query(Query),
    /// What the client's session holds under the ticket's id.
    #[prost(bool, tag = "6")]
    Held(bool),
    /// There are none.
    #[prost(bool, tag = "8")]
    Nothing(bool),
    /// A command of Flight SQL about what there is, to be answered.
    #[prost(bytes = "vec", tag = "7")]
    Command(Vec<u8>),
}

impl Use {
    fn label(self) -> Aad<&'static [u8]> {
        Aad::from(match self {
            Use::Bearer => b"kho flight bearer".as_slice(),
            Use::Ticket => b"kho flight ticket".as_slice(),
        })
    }
}

impl Sealer {
    /// # Errors
    /// `XX000` where the key does not fit, which it does.
    pub fn new(secret: &[u8; 32]) -> Result<Sealer> {
        let key = UnboundKey::new(&AES_256_GCM, secret);
        let key = key.map_err(|_| Error::internal("a sealing key does not fit"))?;
        Ok(Sealer(LessSafeKey::new(key)))
    }

    /// # Errors
    /// `XX000` for more than the cipher takes, which no message is.
    pub fn seal(&self, of: Use, message: &impl Message) -> Result<Vec<u8>> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut text = message.encode_to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), of.label(), &mut text)
            .map_err(|_| Error::internal("a ticket cannot be sealed"))?;
        Ok([nonce.as_slice(), &text].concat())
    }

    /// The message, where it was sealed here for that use.
    pub fn open<M: Message + Default>(&self, of: Use, sealed: &[u8]) -> Option<M> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_in_place(nonce, of.label(), &mut text).ok()?;
        M::decode(&*opened).ok()
    }
}

/// An id as it was given out.
pub fn id(bytes: &[u8]) -> Option<Uuid> {
    Uuid::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests;
