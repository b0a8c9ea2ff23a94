//! What it takes to be let in: certificates and passwords, read anew when they change.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// How this process shows who it is, and knows who etcd is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// `--etcd-cacert`; without it the usual authorities of the web are believed.
    pub(crate) authorities: Option<PathBuf>,
    /// `--etcd-cert` and `--etcd-key`.
    pub(crate) identity: Option<Identity>,
    pub(crate) login: Option<Login>,
}

/// A client certificate and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// A user of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Password,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Password {
    /// From the environment.
    Text(String),
    File(PathBuf),
}

impl fmt::Debug for Password {
    /// Never shows the password itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Password::Text(_) => f.write_str("Text(…)"),
            Password::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

/// Why a file cannot be used.
#[derive(Debug)]
pub(crate) struct Unusable {
    path: PathBuf,
    problem: String,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.problem)
    }
}

/// Longest file that is read: a bundle of all authorities of the web has 250 KB.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// When each of the files was changed last; another value is another content.
pub(super) type Stamp = Vec<Option<(SystemTime, u64)>>;

impl Access {
    pub(super) fn stamp(&self) -> Stamp {
        let identity = self.identity.iter().flat_map(|id| [&id.certificate, &id.key]);
        let files = self.authorities.iter().chain(identity);
        let stamp = |path: &PathBuf| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        files.map(stamp).collect()
    }

    pub(super) fn tls(&self) -> Result<TlsConfig, Unusable> {
        let mut builder = TlsConfig::builder();
        if let Some(path) = &self.authorities {
            builder = builder.root_certs(RootCerts::new_with_certs(&certificates(path)?));
        }
        if let Some(identity) = &self.identity {
            builder = builder.client_cert(Some(identity.load()?));
        }
        Ok(builder.build())
    }
}

impl Identity {
    fn load(&self) -> Result<ClientCert, Unusable> {
        let chain = certificates(&self.certificate)?;
        let pem = read(&self.key)?;
        let unusable = |problem: &str| unusable(&self.key, problem);
        let key = PrivateKey::from_pem(&pem).map_err(|_| unusable("no private key in it (PEM)"))?;
        // ureq takes for granted that the two belong together.
        let der = chain.iter().map(|certificate| CertificateDer::from(certificate.der().to_vec()));
        let key_der = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|_| unusable("no private key in it (PEM)"))?;
        CertifiedKey::from_der(der.collect(), key_der, &ring::default_provider()).map_err(
            |error| {
                let certificate = self.certificate.display();
                unusable(&format!("it does not go with {certificate}: {error}"))
            },
        )?;
        Ok(ClientCert::new_with_certs(&chain, key))
    }
}

impl Login {
    pub(super) fn password(&self) -> Result<String, Unusable> {
        match &self.password {
            Password::Text(text) => Ok(text.clone()),
            Password::File(path) => {
                let bytes = read(path)?;
                let text = String::from_utf8(bytes).map_err(|_| unusable(path, "not UTF-8"))?;
                // Editors end a file with a newline.
                let password = text.trim_end_matches(['\r', '\n']);
                if password.is_empty() {
                    return Err(unusable(path, "no password in it"));
                }
                Ok(password.to_owned())
            }
        }
    }

    /// The value of HTTP's `Authorization`, as v2 wants it (RFC 7617).
    pub(super) fn basic(&self) -> Result<String, Unusable> {
        let (user, password) = (&self.user, self.password()?);
        Ok(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Unusable> {
    let pem = read(path)?;
    let certificates = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    if certificates.is_empty() {
        return Err(unusable(path, "no certificate in it (PEM)"));
    }
    Ok(certificates)
}

fn read(path: &Path) -> Result<Vec<u8>, Unusable> {
    let read = || -> io::Result<Vec<u8>> {
        if fs::metadata(path)?.len() > MAX_FILE_BYTES {
            return Err(io::Error::other(format!("more than {MAX_FILE_BYTES} bytes")));
        }
        fs::read(path)
    };
    read().map_err(|error| unusable(path, &error.to_string()))
}

fn unusable(path: &Path, problem: &str) -> Unusable {
    Unusable { path: path.to_owned(), problem: problem.to_owned() }
}
