//! What all wires share in letting clients in: who they are, and how many there may be.
//!
//! What it guarantees: the number of clients is bounded over all protocols together, and the last
//! places are kept for those who look after the server.
//! What it does not: it knows no protocol.
//! On failure: `53300` where there is no place.

use std::sync::Arc;
use std::time::Duration;

use kho_catalog::error::{Error, Kind, Result};
use kho_sql::session::Engine;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::authenticate::Authenticator;
use crate::authenticate::oidc::Oidc;

/// A client whose machine or network is gone says nothing; it is asked after this much silence.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// One that does not even acknowledge what it was sent is given up: nothing is asked while data is
/// on its way.
#[cfg(target_os = "linux")]
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(120);

/// The door of one server.
pub struct Entrance {
    pub engine: Arc<Engine>,
    pub authenticator: Authenticator,
    places: Arc<Semaphore>,
    reserved: usize,
}

impl Entrance {
    /// `places` is how many clients there may be, of which `reserved` are kept for members of
    /// `kho_admin`; for `mock_secret` see [`Authenticator::new`].
    pub fn new(
        engine: Arc<Engine>,
        mock_secret: [u8; 32],
        oidc: Option<Oidc>,
        (places, reserved): (usize, usize),
    ) -> Entrance {
        Entrance {
            authenticator: Authenticator::new(Arc::clone(&engine), mock_secret, oidc),
            engine,
            places: Arc::new(Semaphore::new(places)),
            reserved,
        }
    }

    /// A place for a client of this role, as long as what is given back is kept.
    ///
    /// # Errors
    /// `53300` where there is none.
    pub async fn place(&self, role: &str) -> Result<OwnedSemaphorePermit> {
        let none = |message: &str| Error::new(Kind::TooManyConnections, message);
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| none("sorry, too many clients already"))?;
        if self.places.available_permits() < self.reserved
            && !self.engine.account(role).await?.is_some_and(|account| account.administers)
        {
            return Err(none("remaining connection slots are reserved for members of kho_admin"));
        }
        Ok(place)
    }
}

/// Lets the system find out when the other end of a connection is gone.
pub fn watch_over(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    let prepared =
        stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keepalive));
    #[cfg(target_os = "linux")]
    let prepared = prepared
        .and_then(|()| SockRef::from(stream).set_tcp_user_timeout(Some(ACKNOWLEDGED_WITHIN)));
    if let Err(error) = prepared {
        tracing::debug!(%error, "the options of a socket cannot be set");
    }
}
