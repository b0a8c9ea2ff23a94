//! The options that say where etcd is and how to be let in.

use std::path::PathBuf;

use super::{
    Environment, Refusal,
    typed::{ApiName, TypedEtcd},
    values,
};
use crate::{
    etcd::{self, Access, Api, Identity, Login, Member, Password},
    roles::Registry,
};

impl TypedEtcd {
    pub(super) fn resolve(self, environment: &Environment) -> Result<Registry, Refusal> {
        let members = match &self.etcd {
            Some(values::Members(members)) => members.clone(),
            None => environment.etcd_members()?.unwrap_or_else(etcd::default_members),
        };
        let api = match self.etcd_api {
            ApiName::Auto => None,
            ApiName::V2 => Some(Api::V2),
            ApiName::V3 => Some(Api::V3),
        };
        let access = self.access(&members, environment)?;
        Ok(Registry { members, api, access, prefix: self.prefix })
    }

    fn access(&self, members: &[Member], environment: &Environment) -> Result<Access, Refusal> {
        let file = |typed: &Option<PathBuf>, name| {
            typed.clone().or_else(|| environment.get(name).map(PathBuf::from))
        };
        let typed = [
            ("--etcd-cacert", &self.etcd_cacert),
            ("--etcd-cert", &self.etcd_cert),
            ("--etcd-key", &self.etcd_key),
        ];
        let unused = typed.iter().find(|(_, file)| file.is_some()).map(|(name, _)| name);
        if let Some(name) = unused
            && !members.iter().any(|member| member.is_tls)
        {
            return Err(Refusal::usage(&format!(
                "{name}: no member of --etcd begins with https://, so nothing would be encrypted"
            )));
        }
        let certificate = file(&self.etcd_cert, "ETCDCTL_CERT");
        let identity = match (certificate, file(&self.etcd_key, "ETCDCTL_KEY")) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
            (Some(_), None) => return Err(Refusal::usage("--etcd-cert: --etcd-key is missing")),
            (None, Some(_)) => return Err(Refusal::usage("--etcd-key: --etcd-cert is missing")),
        };
        let login = self.login(environment)?;
        if login.is_some()
            && !self.etcd_insecure_auth
            && let Some(open) = members.iter().find(|member| !member.is_tls)
        {
            return Err(Refusal::usage(&format!(
                "--etcd-user: the password would be sent to {open} for everybody to read; use \
                 https://, or say --etcd-insecure-auth"
            )));
        }
        let authorities = file(&self.etcd_cacert, "ETCDCTL_CACERT");
        Ok(Access { authorities, identity, login })
    }

    fn login(&self, environment: &Environment) -> Result<Option<Login>, Refusal> {
        let file = self.etcd_password_file.clone().map(Password::File);
        let text = |text: &str| Password::Text(text.to_owned());
        let (user, password) = match (&self.etcd_user, environment.get("ETCDCTL_USER")) {
            (Some(typed), _) if typed.contains(':') => {
                return Err(Refusal::usage(
                    "--etcd-user: a name without ':' is expected; a password on the command line \
                     can be read by everybody, so it is taken from --etcd-password-file or \
                     ETCDCTL_PASSWORD",
                ));
            }
            (Some(typed), _) => (typed.clone(), file),
            (None, Some(both)) => match both.split_once(':') {
                Some((user, password)) => (user.to_owned(), file.or(Some(text(password)))),
                None => (both.to_owned(), file),
            },
            (None, None) if file.is_some() => {
                return Err(Refusal::usage("--etcd-password-file: --etcd-user is missing"));
            }
            (None, None) => return Ok(None),
        };
        let password = password.or_else(|| environment.get("ETCDCTL_PASSWORD").map(text));
        match password {
            Some(password) => Ok(Some(Login { user, password })),
            None => Err(Refusal::usage(&format!(
                "--etcd-user {user}: the password is missing; --etcd-password-file or \
                 ETCDCTL_PASSWORD says it"
            ))),
        }
    }
}
