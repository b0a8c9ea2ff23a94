//! Docker, or Podman in its place.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use super::finding::Finding;
use crate::{
    docker::{self, Address, Client, OLDEST_API},
    report,
};

const CHECK: &str = "docker";

/// Its socket's group may open it for writing, which connecting takes.
const GROUP_MAY_WRITE: u32 = 0o020;

/// `named` is where somebody says that it is; otherwise this host may have none.
pub(super) fn examine(named: Option<Address>) -> Finding {
    let is_named = named.is_some();
    let address = named.unwrap_or_default();
    match ask(&mut Client::new(address.clone())) {
        Ok(finding) => finding,
        Err(error) => match (&address, error.no_connection()) {
            (Address::Unix(path), Some(ErrorKind::NotFound)) => missing(path, is_named),
            (Address::Unix(path), Some(ErrorKind::PermissionDenied)) => forbidden(path),
            (Address::Unix(path), Some(ErrorKind::ConnectionRefused)) => deserted(path),
            _ => Finding::fail(CHECK, report::chain(&error), advice(&error)),
        },
    }
}

/// Everything that a registrar asks, but about single containers.
fn ask(client: &mut Client) -> Result<Finding, docker::Error> {
    let version = client.version()?;
    let shown = report::excerpt(&version.to_string());
    if version.api() < Some(OLDEST_API) {
        return Ok(Finding::fail(
            CHECK,
            format!("{shown}, which lacks what is read since API {OLDEST_API}"),
            "update it: Docker has this API since 1.12, Podman since 2.0",
        ));
    }
    let running = client.running()?.len();
    client.host_name()?;
    client.events()?;
    Ok(Finding::ok(CHECK, format!("{shown}; containers running: {running}")))
}

fn missing(path: &Path, is_named: bool) -> Finding {
    let path = path.display();
    let finding = format!("no socket at {path}");
    match is_named {
        true => Finding::fail(
            CHECK,
            finding,
            "start Docker, or say with --docker where it is; into a container, mount its socket",
        ),
        false => Finding::warn(
            CHECK,
            finding,
            format!(
                "register needs it, proxy and forward do not: start Docker, or say with --docker \
                 where it is; into a container, mount it with -v {path}:{path}"
            ),
        ),
    }
}

fn forbidden(path: &Path) -> Finding {
    let advice = match fs::metadata(path) {
        Ok(socket) if socket.mode() & GROUP_MAY_WRITE != 0 => {
            let group = socket.gid();
            format!(
                "run it with group {group}: docker run --group-add {group}, or \
                 SupplementaryGroups={group} in a unit"
            )
        }
        Ok(socket) => format!("run it as user {}, who alone may open it", socket.uid()),
        Err(_) => "run it as root, or as a user who may enter the directory".to_owned(),
    };
    Finding::fail(CHECK, format!("this user may not open {}", path.display()), advice)
}

/// Also where a container was started before Docker, which makes a directory of what is
/// to be mounted and not there, or before Docker's last restart.
fn deserted(path: &Path) -> Finding {
    let is_socket = fs::metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let finding = match is_socket {
        true => format!("nobody listens at {}", path.display()),
        false => format!("{} is no socket", path.display()),
    };
    Finding::fail(
        CHECK,
        finding,
        "start Docker; in a container that was started before it, mount the directory of the \
         socket instead of the socket, and start the container again",
    )
}

fn advice(error: &docker::Error) -> &'static str {
    if error.no_connection().is_some() {
        "start Docker there, or say with --docker where it is"
    } else if error.is_refusal() {
        "let what stands before Docker pass GET of /version, /info, /events and /containers"
    } else {
        "look at Docker's own log; is it Docker at all that listens there, and without TLS?"
    }
}

/// It has not been heard of in time.
pub(super) fn late(finding: &str) -> Finding {
    Finding::fail(CHECK, finding, "look at Docker's own log, and at what looks up its name")
}
