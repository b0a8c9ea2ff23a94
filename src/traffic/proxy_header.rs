//! The PROXY protocol's header: tells an upstream who its client is. Pure.
//!
//! Source: HAProxy, "The PROXY protocol, versions 1 & 2", sections 2.1 and 2.2.

use std::net::{IpAddr, SocketAddr};

/// Which header an upstream expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyHeader {
    V1,
    V2,
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_2_PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

impl ProxyHeader {
    /// The header for a connection from `client` to `listener`.
    pub(super) fn bytes(self, client: SocketAddr, listener: SocketAddr) -> Vec<u8> {
        // A dual-stack listener sees IPv4 clients as ::ffff:a.b.c.d.
        let (from, to) = match (client.ip().to_canonical(), listener.ip().to_canonical()) {
            (IpAddr::V6(from), IpAddr::V4(to)) => (from.into(), mapped(to.into())),
            (IpAddr::V4(from), IpAddr::V6(to)) => (mapped(from.into()), to.into()),
            same => same,
        };
        let (from_port, to_port) = (client.port(), listener.port());
        match self {
            ProxyHeader::V1 => {
                let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
                format!("PROXY {family} {from} {to} {from_port} {to_port}\r\n").into_bytes()
            }
            ProxyHeader::V2 => {
                let mut addresses = Vec::with_capacity(36);
                for ip in [from, to] {
                    match ip {
                        IpAddr::V4(ip) => addresses.extend_from_slice(&ip.octets()),
                        IpAddr::V6(ip) => addresses.extend_from_slice(&ip.octets()),
                    }
                }
                addresses.extend_from_slice(&from_port.to_be_bytes());
                addresses.extend_from_slice(&to_port.to_be_bytes());
                let family = if from.is_ipv4() { TCP_OVER_IPV4 } else { TCP_OVER_IPV6 };
                let mut header = SIGNATURE.to_vec();
                header.extend_from_slice(&[VERSION_2_PROXY, family]);
                header.extend_from_slice(&(addresses.len() as u16).to_be_bytes());
                header.extend_from_slice(&addresses);
                header
            }
        }
    }
}

fn mapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
        v6 @ IpAddr::V6(_) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(version: ProxyHeader, client: &str, listener: &str) -> Vec<u8> {
        version.bytes(client.parse().unwrap(), listener.parse().unwrap())
    }

    #[test]
    fn version_1_is_a_line_of_text() {
        for (client, listener, line) in [
            ("192.0.2.10:56324", "10.0.0.1:6379", "PROXY TCP4 192.0.2.10 10.0.0.1 56324 6379\r\n"),
            (
                "[::ffff:192.0.2.10]:1",
                "[::ffff:10.0.0.1]:2",
                "PROXY TCP4 192.0.2.10 10.0.0.1 1 2\r\n",
            ),
            ("[2001:db8::1]:1", "[2001:db8::2]:2", "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"),
        ] {
            assert_eq!(bytes(ProxyHeader::V1, client, listener), line.as_bytes());
        }
    }

    #[test]
    fn version_2_is_a_signature_and_addresses() {
        let header = bytes(ProxyHeader::V2, "192.0.2.10:56324", "10.0.0.1:6379");
        assert_eq!(header[..12], SIGNATURE);
        assert_eq!(header[12..16], [0x21, 0x11, 0, 12]);
        assert_eq!(header[16..], [192, 0, 2, 10, 10, 0, 0, 1, 0xdc, 0x04, 0x18, 0xeb]);
        let header = bytes(ProxyHeader::V2, "[2001:db8::1]:1", "[2001:db8::2]:2");
        assert_eq!(header[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(header.len(), 16 + 36);
    }
}
