//! An S3 service of the tests, and buckets in it.
//!
//! What it guarantees: the service listens on a port the system chose and is gone, by its process
//! id, when the last test that uses it is done; every bucket is fresh; put-if-absent is one step.
//! What it does not: it keeps everything in memory and checks no signature.
//! On failure: it panics with what the service printed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use kho_catalog::audit::Keys;

use crate::kho::{Folders, Kho};
use crate::process::Process;
use crate::python::python;

/// A secret that must be found nowhere.
pub const SECRET: &str = "kho-tests-secret-access-key";

/// A running service.
pub struct S3 {
    // Held for its end alone; the lock lets threads share the service.
    _process: Mutex<Process>,
    pub address: SocketAddr,
}

/// A bucket, and the address at which a Kho looks for its service.
#[derive(Clone)]
pub struct Bucket {
    // The service lives as long as somebody has a bucket in it.
    service: Arc<S3>,
    pub name: String,
    pub endpoint: SocketAddr,
}

impl S3 {
    /// A service of its own, for a test that harms it.
    pub fn start() -> Arc<S3> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join("s3_server.py");
        let mut command = Command::new(python());
        command.arg(script).env("PYTHONDONTWRITEBYTECODE", "1");
        let process = Process::start(&mut command);
        let address = process.wait_for(|line| line.strip_prefix("ready ")?.parse().ok());
        Arc::new(S3 { _process: Mutex::new(process), address })
    }

    /// The one that tests share while they run.
    pub fn shared() -> Arc<S3> {
        static SHARED: Mutex<Weak<S3>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let started = S3::start();
            *shared = Arc::downgrade(&started);
            started
        })
    }

    /// Makes a new bucket.
    pub fn bucket(self: &Arc<S3>) -> Bucket {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kho-tests-{}-{number}", std::process::id());
        let bucket = Bucket { service: self.clone(), name, endpoint: self.address };
        bucket.make();
        bucket
    }

    /// Takes away every bucket of this service, with all that is in it.
    pub fn forget_everything(&self) {
        self.request("POST", "/moto-api/reset");
    }

    fn request(&self, method: &str, path: &str) {
        let mut stream = TcpStream::connect(self.address).unwrap_or_else(|it| panic!("{it}"));
        let done = stream.set_read_timeout(Some(Duration::from_secs(60))).and_then(|()| {
            let head = "Host: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(format!("{method} {path} HTTP/1.1\r\n{head}").as_bytes())
        });
        let mut answer = String::new();
        let read = done.and_then(|()| stream.read_to_string(&mut answer));
        read.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!(answer.contains(" 200 "), "{method} {path}: {answer}");
    }
}

/// The keys of every ledger in a bucket.
fn ledger_keys() -> &'static str {
    static KEYS: OnceLock<String> = OnceLock::new();
    KEYS.get_or_init(|| Keys::generate().unwrap_or_else(|error| panic!("no keys: {error:?}")))
}

impl Bucket {
    /// Makes the bucket (anew).
    pub fn make(&self) {
        self.service.request("PUT", &format!("/{}", self.name));
    }

    /// The same bucket seen at another address, a proxy's.
    #[must_use]
    pub fn at(&self, endpoint: SocketAddr) -> Bucket {
        Bucket { endpoint, ..self.clone() }
    }

    pub fn url(&self) -> String {
        format!("s3://{}/city/warehouse", self.name)
    }

    /// What a Kho must be told to keep its warehouse here.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("KHO_DATA", self.url()),
            ("AWS_ENDPOINT_URL", format!("http://{}", self.endpoint)),
            ("AWS_ACCESS_KEY_ID", "kho-tests".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            // Machines that serve one warehouse share the keys of its ledger.
            ("KHO_KEYS__LEDGER", "env:LEDGER_KEYS".to_owned()),
            ("LEDGER_KEYS", ledger_keys().to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// Starts a Kho whose warehouse is here, as on a machine of its own.
    pub fn serve(&self) -> Kho {
        self.serve_with(Folders::new(), &[])
    }

    /// The same with folders that may have been used before, and more environment.
    pub fn serve_with(&self, folders: Folders, more: &[(&str, &str)]) -> Kho {
        let environment = self.environment();
        let mut all: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        all.extend_from_slice(more);
        Kho::start_with(folders, &all)
    }
}
