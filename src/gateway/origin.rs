//! Where a caller is: the connection's address, or what a trusted proxy says.
//!
//! The list in the header is read from its end, which the nearest proxy wrote: the first address that is no proxy of ours
//! is the caller. What stands before it was sent by the caller and proves nothing.

use crate::config::{ClientAddress, ForwardedHeader};
use http::HeaderMap;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// More proxies in a row than this are not followed.
const MOST_HOPS: usize = 32;

/// The caller's address; `peer` is that of the connection.
pub(super) fn address(peer: IpAddr, headers: &HeaderMap, settings: &ClientAddress) -> IpAddr {
    let mut last = peer.to_canonical();
    let is_trusted = |address: IpAddr| within(address, &settings.trusted_proxies);
    if settings.trusted_proxies.is_empty() || !is_trusted(last) {
        return last;
    }
    let name = match settings.header {
        ForwardedHeader::XForwardedFor => "x-forwarded-for",
        ForwardedHeader::Forwarded => "forwarded",
    };
    let values: Vec<&str> = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect();
    for hop in values.into_iter().rev().flat_map(|value| value.rsplit(',')).take(MOST_HOPS) {
        let told = match settings.header {
            ForwardedHeader::XForwardedFor => node(hop.trim()),
            ForwardedHeader::Forwarded => forwarded_for(hop).and_then(node),
        };
        // A proxy that does not say for whom it asks is all that is known of the caller.
        let Some(told) = told else { break };
        last = told;
        if !is_trusted(last) {
            break;
        }
    }
    last
}

/// An address as text. Every request's is written, hence not by the general formatter.
pub(super) fn shown(address: IpAddr) -> String {
    let IpAddr::V4(address) = address else { return address.to_string() };
    let mut text = String::with_capacity("255.255.255.255".len());
    for (at, octet) in address.octets().into_iter().enumerate() {
        if at > 0 {
            text.push('.');
        }
        text.push_str(itoa::Buffer::new().format(octet));
    }
    text
}

/// Whether an address lies in one of the networks.
pub(super) fn within(address: IpAddr, networks: &[IpNet]) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// The node of a `Forwarded` element: `for=192.0.2.1;proto=https`, `for="[2001:db8::1]:4711"`.
fn forwarded_for(element: &str) -> Option<&str> {
    let pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, node) = pairs.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    Some(node.trim().trim_matches('"'))
}

/// An address with or without a port; nothing for `unknown` and for names that hide one.
fn node(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(text, |(inside, _)| inside);
    let address = bare.parse::<IpAddr>().or_else(|_| bare.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn settings(proxies: &[&str], header: ForwardedHeader) -> ClientAddress {
        ClientAddress { trusted_proxies: proxies.iter().map(|text| text.parse().unwrap()).collect(), header }
    }

    fn told(peer: &str, name: &'static str, values: &[&str], settings: &ClientAddress) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        address(peer.parse().unwrap(), &headers, settings).to_string()
    }

    #[test]
    fn an_address_is_shown_as_the_library_shows_it() {
        for text in ["0.0.0.0", "127.0.0.1", "255.255.255.255", "10.1.20.99", "::1", "2001:db8::7"] {
            assert_eq!(shown(text.parse().unwrap()), text);
        }
    }

    #[test]
    fn nobody_is_believed_who_is_not_a_trusted_proxy() {
        let none = settings(&[], ForwardedHeader::XForwardedFor);
        let one = settings(&["10.0.0.1/32"], ForwardedHeader::XForwardedFor);
        for settings in [&none, &one] {
            assert_eq!(told("192.0.2.7", "x-forwarded-for", &["127.0.0.1"], settings), "192.0.2.7");
        }
        assert_eq!(told("10.0.0.1", "forwarded", &["for=127.0.0.1"], &one), "10.0.0.1", "another header");
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_caller_whatever_it_put_before() {
        let settings = settings(&["10.0.0.0/8", "2001:db8:1::/48"], ForwardedHeader::XForwardedFor);
        for (values, caller) in [
            (&["203.0.113.9"][..], "203.0.113.9"),
            (&["127.0.0.1, 203.0.113.9"], "203.0.113.9"),
            (&["127.0.0.1", "203.0.113.9 , 10.2.3.4"], "203.0.113.9"),
            (&["203.0.113.9:4711,10.2.3.4:80"], "203.0.113.9"),
            (&["[2001:db8:2::5]:443, 2001:db8:1::9"], "2001:db8:2::5"),
            (&["::ffff:203.0.113.9"], "203.0.113.9"),
            (&["10.9.9.9, 10.2.3.4"], "10.9.9.9"),
            (&["203.0.113.9, unknown, 10.2.3.4"], "10.2.3.4"),
            (&["203.0.113.9, "], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(told("10.0.0.1", "x-forwarded-for", values, &settings), caller, "{values:?}");
        }
        assert_eq!(told("::ffff:10.0.0.1", "x-forwarded-for", &["203.0.113.9"], &settings), "203.0.113.9");
    }

    #[test]
    fn the_standard_header_is_read_in_all_its_spellings() {
        let settings = settings(&["10.0.0.0/8"], ForwardedHeader::Forwarded);
        for (value, caller) in [
            ("for=203.0.113.9", "203.0.113.9"),
            ("For=\"203.0.113.9:80\";proto=http;by=10.0.0.1", "203.0.113.9"),
            ("for=127.0.0.1, proto=https;for=\"[2001:db8::1]:4711\" , for=10.1.1.1", "2001:db8::1"),
            ("for=_hidden", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
        ] {
            assert_eq!(told("10.0.0.1", "forwarded", &[value], &settings), caller, "{value}");
        }
    }

    #[test]
    fn a_long_list_is_not_followed_without_end() {
        let settings = settings(&["10.0.0.0/8"], ForwardedHeader::XForwardedFor);
        let list = vec!["10.1.1.1"; 1_000].join(",");
        assert_eq!(told("10.0.0.1", "x-forwarded-for", &[&list], &settings), "10.1.1.1");
    }

    #[test]
    fn networks_hold_addresses_of_their_own_kind() {
        let networks: Vec<IpNet> = ["10.0.0.0/8", "2001:db8::/32"].map(|text| text.parse().unwrap()).to_vec();
        for (address, is_within) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("2001:db8:ffff::1", true),
            ("::ffff:10.0.0.1", true),
            ("::1", false),
        ] {
            assert_eq!(within(address.parse().unwrap(), &networks), is_within, "{address}");
        }
    }
}
