//! An etcd behind TLS, and one that wants to know who asks.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::{Api, Client, Etcd, User, v2, v3};
use crate::support::{DEADLINE, http, temp_dir, unique};

/// Where the test itself asks an etcd whose own port takes only TLS. It is the same store.
const PLAIN_PORT: u16 = 2378;

/// Who signs certificates.
pub(crate) struct Authority {
    dir: PathBuf,
}

/// A certificate and its key, in files.
pub(crate) struct Identity {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// How a key is written down; etcd takes all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeyFormat {
    /// `BEGIN PRIVATE KEY`
    Pkcs8,
    /// `BEGIN EC PRIVATE KEY`, as cfssl and etcd's own documentation have it.
    Sec1,
    /// `BEGIN RSA PRIVATE KEY`
    Pkcs1,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let dir = temp_dir("authority");
        openssl(&dir, "ecparam -name prime256v1 -genkey -noout -out ca.key");
        // One of the same name would be taken for the same, and its signature for a wrong one.
        let subject = format!("-subj /CN=authority-{}", unique());
        openssl(&dir, &format!("req -x509 -new -key ca.key {subject} -days 2 -out ca.pem"));
        Authority { dir }
    }

    /// The certificate by which it is known.
    pub(crate) fn cert(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// For the server, or the client, at `address`.
    pub(crate) fn issue(&self, address: SocketAddr) -> Identity {
        self.issue_as(&format!("IP:{}", address.ip()), 2, KeyFormat::Pkcs8)
    }

    /// For `name`, such as `DNS:etcd.local`; of 0 days it has expired a second later.
    pub(crate) fn issue_as(&self, name: &str, days: u32, format: KeyFormat) -> Identity {
        let dir = temp_dir("identity");
        match format {
            KeyFormat::Pkcs8 => openssl(
                &dir,
                "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out key.pem",
            ),
            KeyFormat::Sec1 => {
                openssl(&dir, "ecparam -name prime256v1 -genkey -noout -out key.pem")
            }
            KeyFormat::Pkcs1 => openssl(&dir, "genrsa -traditional -out key.pem 2048"),
        }
        openssl(&dir, "req -new -key key.pem -subj /CN=identity -out request.pem");
        // etcd's gateway is a client of its own server, with the server's certificate.
        let extensions = format!(
            "subjectAltName={name}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n"
        );
        fs::write(dir.join("extensions"), extensions).unwrap();
        let signer = format!("-CA {0}/ca.pem -CAkey {0}/ca.key", self.dir.display());
        let serial = format!("-set_serial {}", unique());
        let what = "-in request.pem -extfile extensions -out cert.pem";
        openssl(&dir, &format!("x509 -req {signer} {serial} -days {days} {what}"));
        Identity { cert: dir.join("cert.pem"), key: dir.join("key.pem") }
    }
}

impl Identity {
    /// Replaces the files of `old` by these, as who renews certificates does.
    pub(crate) fn replace(&self, old: &Identity) {
        replace(&self.cert, &old.cert);
        replace(&self.key, &old.key);
    }
}

/// Replaces the file `old` at once, so that nobody reads half of it.
pub(crate) fn replace(new: &Path, old: &Path) {
    let beside = old.with_extension("new");
    fs::copy(new, &beside).unwrap();
    fs::rename(&beside, old).unwrap();
}

/// Runs `openssl WORDS...` in `dir`; no word has a space in it.
fn openssl(dir: &Path, words: &str) {
    let output = Command::new("openssl").args(words.split(' ')).current_dir(dir).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {words}: {said}");
}

impl Etcd {
    /// Those under test reach it through TLS only.
    pub(crate) fn with_tls(mut self, server: &Identity) -> Etcd {
        let address = self.address();
        self.url = format!("https://{address}");
        self.client.address = (address.ip(), PLAIN_PORT).into();
        let (cert, key) = (server.cert.to_str().unwrap(), server.key.to_str().unwrap());
        self.with_options(["--cert-file", cert, "--key-file", key])
    }

    /// Takes only clients with a certificate of `authority`.
    pub(crate) fn with_clients_of(self, authority: &Authority) -> Etcd {
        let trusted = authority.cert();
        let options = ["--client-cert-auth", "--trusted-ca-file", trusted.to_str().unwrap()];
        self.with_options(options)
    }

    /// As soon as it answers, only `name` may read and write, and only what is below
    /// `/services`. Its tokens, which are v3's, live for `token_ttl_s` after their last use.
    pub(crate) fn started_for(self, name: &str, password: &str, token_ttl_s: u32) -> Etcd {
        let ttl = token_ttl_s.to_string();
        // The cost of looking at a password, which would be most of a small machine's load.
        let options = ["--bcrypt-cost", "4", "--auth-token-ttl", &ttl];
        let mut etcd = self.with_options(options).started();
        let root = User { name: "root".to_owned(), password: "of the root".to_owned() };
        match etcd.api {
            Api::V2 => v2_auth(&mut etcd.client, root, name, password),
            Api::V3 => v3_auth(&mut etcd.client, root, name, password),
        }
        etcd
    }
}

impl Client {
    /// Its tokens are no longer valid then, even if it is the same password.
    pub(crate) fn set_password(&self, name: &str, password: &str) {
        match self.api {
            Api::V2 => v2_user(self, name, &json!({ "user": name, "password": password })),
            Api::V3 => {
                let change = json!({ "name": name, "password": password });
                drop(v3::must(self, "auth/user/changepw", change));
            }
        }
    }

    /// Gives `name` the right to what is below `/services`, or takes it away.
    pub(crate) fn set_rights(&self, name: &str, has_rights: bool) {
        match (self.api, has_rights) {
            (Api::V2, true) => v2_user(self, name, &json!({ "user": name, "grant": ["services"] })),
            (Api::V2, false) => {
                v2_user(self, name, &json!({ "user": name, "revoke": ["services"] }))
            }
            (Api::V3, true) => {
                let grant = json!({ "user": name, "role": "services" });
                drop(v3::must(self, "auth/user/grant", grant));
            }
            (Api::V3, false) => {
                let revoke = json!({ "name": name, "role": "services" });
                drop(v3::must(self, "auth/user/revoke", revoke));
            }
        }
    }
}

/// Those of v3, which a process keeps that may have to ask for another one.
impl Client {
    pub(crate) fn token(&self) -> String {
        self.authorization(DEADLINE).unwrap().unwrap()
    }

    /// Whether etcd answers who has `token`.
    pub(crate) fn is_taken(&self, token: &str) -> bool {
        let range = json!({ "key": v3::bytes("/services/") }).to_string();
        let stream = self.connect(DEADLINE).unwrap();
        let answer = http::ask_as(Some(token), stream, "POST", "/v3/kv/range", Some(&range));
        answer.unwrap().status == 200
    }
}

fn v2_auth(client: &mut Client, root: User, name: &str, password: &str) {
    v2_user(client, "root", &json!({ "user": "root", "password": root.password }));
    v2::must(client, "PUT", "/v2/auth/enable", Some(""));
    client.user = Some(root);
    let rights = json!({ "read": ["/services/*"], "write": ["/services/*"] });
    let role = json!({ "role": "services", "permissions": { "kv": rights } }).to_string();
    v2::must(client, "PUT", "/v2/auth/roles/services", Some(&role));
    let user = json!({ "user": name, "password": password, "roles": ["services"] });
    v2_user(client, name, &user);
    // What everybody may do is everything, until this.
    v2::must(client, "DELETE", "/v2/auth/roles/guest", None);
}

fn v2_user(client: &Client, name: &str, user: &serde_json::Value) {
    v2::must(client, "PUT", &format!("/v2/auth/users/{name}"), Some(&user.to_string()));
}

fn v3_auth(client: &mut Client, root: User, name: &str, password: &str) {
    let below = json!({
        "permType": "READWRITE", "key": v3::bytes("/services/"), "range_end": v3::bytes("/services0"),
    });
    for (method, body) in [
        ("role/add", json!({ "name": "services" })),
        ("role/grant", json!({ "name": "services", "perm": below })),
        ("user/add", json!({ "name": name, "password": password })),
        ("user/grant", json!({ "user": name, "role": "services" })),
        ("user/add", json!({ "name": "root", "password": root.password })),
        ("user/grant", json!({ "user": "root", "role": "root" })),
        ("enable", json!({})),
    ] {
        v3::must(client, &format!("auth/{method}"), body);
    }
    client.user = Some(root);
}
