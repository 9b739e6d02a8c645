//! The address at which other machines reach this process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

/// An address of nobody (RFC 5737): the way to it is the way out of this machine.
const OUTSIDE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

/// The address of this machine on the way to rank 0, for Gloo to listen at: by itself it
/// takes what the machine's own name means, which is 127.0.1.1 on Debian. `None` leaves it to
/// Gloo: where `GLOO_SOCKET_IFNAME` names an interface, or no way is known.
pub(crate) fn local_address(host: &str, port: u16) -> Option<String> {
    match std::env::var_os("GLOO_SOCKET_IFNAME") {
        Some(name) if !name.is_empty() => None,
        _ => towards(host, port),
    }
}

fn towards(host: &str, port: u16) -> Option<String> {
    let addresses: Vec<_> = (host, port).to_socket_addrs().ok()?.collect();
    let own: Vec<_> = addresses.into_iter().filter_map(own_address).collect();
    if let Some(address) = own.iter().find(|address| !address.is_loopback()) {
        return Some(address.to_string());
    }
    let loopback = own.first()?;
    // On the machine of rank 0 its name may mean 127.0.1.1, which means another machine to the
    // others.
    let outside = match is_local(host) {
        true => None,
        false => own_address(OUTSIDE).filter(|address| !address.is_loopback()),
    };
    Some(outside.unwrap_or(*loopback).to_string())
}

/// Whether all processes that know rank 0 by this name are on its machine.
fn is_local(host: &str) -> bool {
    let name = host.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name.eq_ignore_ascii_case("localhost.localdomain")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The address that this machine has on the way to another. Connecting a UDP socket sends
/// nothing; it only asks the system for the way.
fn own_address(other: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match other {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(other).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_unspecified()).then_some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_this_machine_is_the_loopback() {
        assert_eq!(towards("127.0.0.1", 29500).as_deref(), Some("127.0.0.1"));
        let named = towards("localhost", 29500).unwrap();
        assert!(named.parse::<IpAddr>().unwrap().is_loopback(), "{named}");
    }

    #[test]
    fn names_of_the_loopback() {
        for (host, expected) in [
            ("localhost", true),
            ("LocalHost.", true),
            ("node.localhost", true),
            ("localhost.localdomain", true),
            ("127.0.1.1", true),
            ("::1", true),
            ("node1", false),
            ("10.0.0.1", false),
            ("notlocalhost", false),
        ] {
            assert_eq!(is_local(host), expected, "{host}");
        }
    }

    #[test]
    fn a_name_of_nobody_is_left_to_gloo() {
        // Not a name at all, so that nobody is asked for it.
        assert_eq!(towards("a\0name", 29500), None);
    }
}
