//! What must hold of the header an upstream is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::ProxyHeader;

/// Either header is read back as the addresses it was written for. The input has a byte
/// that says which of the two are IPv4, IPv6, or IPv4 mapped into IPv6, and then twice
/// an address of 16 bytes and a port.
pub fn proxy_header(data: &[u8]) {
    let mut input = [0; 37];
    let length = data.len().min(input.len());
    input[..length].copy_from_slice(&data[..length]);
    let [kinds, addresses @ ..] = input;
    let client = address(kinds, &addresses[..18]);
    let listener = address(kinds >> 2, &addresses[18..]);

    let meant = (meant(client), meant(listener));
    let is_ipv4 = meant.0.is_ipv4() && meant.1.is_ipv4();
    for (version, read) in [(ProxyHeader::V1, read_v1 as Read), (ProxyHeader::V2, read_v2)] {
        let header = version.bytes(client, listener);
        let (from, to) = read(&header).unwrap_or_else(|| panic!("{}", header.escape_ascii()));
        assert_eq!((self::meant(from), self::meant(to)), meant);
        assert_eq!((from.is_ipv4(), to.is_ipv4()), (is_ipv4, is_ipv4), "{from} {to}");
    }
}

fn address(kind: u8, bytes: &[u8]) -> SocketAddr {
    let v6: [u8; 16] = bytes[..16].try_into().expect("an address has 16 bytes");
    let v4 = Ipv4Addr::new(v6[0], v6[1], v6[2], v6[3]);
    let ip: IpAddr = match kind % 4 {
        0 | 1 => v4.into(),
        2 => v4.to_ipv6_mapped().into(),
        _ => v6.into(),
    };
    SocketAddr::new(ip, u16::from_be_bytes([bytes[16], bytes[17]]))
}

/// A mapped address and the IPv4 address in it are the same host.
fn meant(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

type Read = fn(&[u8]) -> Option<(SocketAddr, SocketAddr)>;

/// `PROXY TCP4 192.0.2.10 10.0.0.1 56324 6379` and CRLF, at most 107 bytes in all.
///
/// Source: "The PROXY protocol", 2.1.
fn read_v1(header: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    if header.len() > 107 {
        return None;
    }
    let line = str::from_utf8(header).ok()?.strip_suffix("\r\n")?;
    let words: Vec<&str> = line.split(' ').collect();
    let ["PROXY", family, from, to, from_port, to_port] = words[..] else { return None };
    let ip = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => None,
    };
    // No leading zeros.
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| port.to_string() == text);
    Some(((ip(from)?, port(from_port)?).into(), (ip(to)?, port(to_port)?).into()))
}

/// A signature, version 2 with the command PROXY, the family, the length of the rest, and
/// the rest: two addresses and two ports, big-endian.
///
/// Source: "The PROXY protocol", 2.2.
fn read_v2(header: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let rest = header.strip_prefix(b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A")?;
    let [0x21, family, high, low, addresses @ ..] = rest else { return None };
    if addresses.len() != usize::from(u16::from_be_bytes([*high, *low])) {
        return None;
    }
    let size = match family {
        0x11 => 4,
        0x21 => 16,
        _ => return None,
    };
    let (from, rest) = addresses.split_at_checked(size)?;
    let (to, ports) = rest.split_at_checked(size)?;
    let [a, b, c, d] = *ports else { return None };
    let ip = |bytes: &[u8]| -> Option<IpAddr> {
        match size {
            4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        }
    };
    Some((
        (ip(from)?, u16::from_be_bytes([a, b])).into(),
        (ip(to)?, u16::from_be_bytes([c, d])).into(),
    ))
}
