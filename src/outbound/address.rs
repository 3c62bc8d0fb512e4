//! Which addresses are of the public Internet (RFC 6890 and the registries that it set up).
//!
//! What is not known to be public is refused: of IPv6 only what has been handed out as global unicast is looked at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Special-purpose IPv4 blocks. 192.0.0.0/24 has two addresses that count as global (.9 and .10); they lead to the
/// nearest gateway of one's own network, so they are refused with the rest.
const SPECIAL_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast and, above it, what is reserved, the broadcast address included.
    (Ipv4Addr::new(224, 0, 0, 0), 3),
    // In no registry: within one large cloud this public address is each machine's own helper, with its secrets.
    (Ipv4Addr::new(168, 63, 129, 16), 32),
];

/// All that is handed out as global unicast. Outside of it lie the loopback and unspecified addresses, IPv4 written as
/// IPv6 (`::/96`, `::ffff:0:0/96`), `64:ff9b:1::/48`, `100::/64`, `5f00::/16`, `fc00::/7`, `fe80::/10`, `fec0::/10`
/// and `ff00::/8`.
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Special-purpose blocks within it: protocol assignments with Teredo, documentation twice, 6to4.
const SPECIAL_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// IPv4 behind a translator (RFC 6052 §2.1): how an IPv6-only network reaches every host that has no IPv6.
const TRANSLATED_V4: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Whether the address belongs to the public Internet.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) if within_v6(address, TRANSLATED_V4) => {
            let [.., a, b, c, d] = address.octets();
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        IpAddr::V6(address) => {
            within_v6(address, GLOBAL_V6) && !SPECIAL_V6.into_iter().any(|block| within_v6(address, block))
        }
    }
}

/// Addresses of clouds' helpers, which know a machine's credentials and are no company's own, beside those on the link.
const HELPERS: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Whether an address may be one of a network that the settings name: a machine like others, and no address that means
/// this machine, its link, many machines, or something that guards secrets.
pub(super) fn is_of_a_network(address: IpAddr) -> bool {
    let special = match address {
        IpAddr::V4(address) => {
            address.is_link_local() || address.is_broadcast() || matches!(address.octets(), [0 | 240..=255, ..])
        }
        // Within ::/8 lie the unspecified and loopback addresses and all that is IPv4 in disguise.
        IpAddr::V6(address) => address.is_unicast_link_local() || matches!(address.octets(), [0, ..]),
    };
    !(special || address.is_loopback() || address.is_multicast() || HELPERS.contains(&address))
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !SPECIAL_V4.into_iter().any(|(start, prefix)| Ipv4Net::new_assert(start, prefix).contains(&address))
}

fn within_v6(address: Ipv6Addr, (start, prefix): (Ipv6Addr, u8)) -> bool {
    Ipv6Net::new_assert(start, prefix).contains(&address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The first and last address of each special block of the registries.
    const SPECIAL: &str = "0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.100.100.200 100.127.255.255 127.0.0.0 \
        127.0.0.1 127.255.255.255 169.254.0.0 169.254.169.254 169.254.255.255 172.16.0.0 172.31.255.255 192.0.0.0 \
        192.0.0.9 192.0.0.10 192.0.0.170 192.0.0.192 192.0.0.255 192.0.2.0 192.0.2.255 192.88.99.0 192.88.99.255 \
        192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 198.51.100.0 198.51.100.255 203.0.113.0 203.0.113.255 \
        224.0.0.0 239.255.255.255 240.0.0.0 255.255.255.254 255.255.255.255 168.63.129.16 \
        :: ::1 ::8.8.8.8 ::127.0.0.1 ::ffff:8.8.8.8 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:0:8.8.8.8 \
        64:ff9b::10.0.0.1 64:ff9b::127.0.0.1 64:ff9b::169.254.169.254 64:ff9b:1:: 64:ff9b:1::808:808 64:ff9b::1:808:808 \
        100:: 100::ffff:ffff:ffff:ffff 100:0:0:1:: 2001:: 2001::1 2001:2:: 2001:10:: 2001:20:: 2001:30:: 2001:1ff:ffff:: \
        2001:db8:: 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 2002:7f00:1:: 2002:808:808:: 2002:ffff:: 3fff:: 3fff:fff:ffff:: \
        4000:: 5f00:: 5f00:ffff:: fc00:: fd00:ec2::254 fdff:ffff:: fe80:: fe80::1 febf:ffff:: fec0:: feff:: ff00:: ff02::1 \
        ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 1fff:ffff::";

    /// The neighbours of those blocks, which are as public as any.
    const PUBLIC: &str = "1.0.0.0 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 \
        168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.3.0 \
        192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 \
        203.0.112.255 203.0.114.0 223.255.255.255 64:ff9b::8.8.8.8 2000:: 2001:200:: 2001:db7:ffff:: 2001:db9:: 2001:4860:4860::8888 \
        2003:: 2606:4700::1111 2a00:1450:4001::200e 3ffe:ffff:: 3fff:1000::";

    #[test]
    fn special_addresses_are_told_from_public_ones() {
        for text in SPECIAL.split_whitespace() {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in PUBLIC.split_whitespace() {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn no_network_makes_this_machine_its_link_or_a_clouds_helper_reachable() {
        for text in "127.0.0.1 127.255.255.255 0.0.0.0 0.1.2.3 169.254.169.254 224.0.0.1 255.255.255.255 240.0.0.1 168.63.129.16 \
            100.100.100.200 :: ::1 ::ffff:10.0.0.1 ::10.0.0.1 64:ff9b::a00:1 fe80::1 febf::1 ff02::1 fd00:ec2::254"
            .split_whitespace()
        {
            assert!(!is_of_a_network(text.parse().unwrap()), "{text}");
        }
        for text in
            "10.0.0.1 172.16.0.1 192.168.1.1 100.64.0.1 198.18.0.1 8.8.8.8 fd12:3456::1 2001:db8::1".split_whitespace()
        {
            assert!(is_of_a_network(text.parse().unwrap()), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// The standard library's own words about addresses, as far as they go, never contradict ours.
        #[test]
        fn what_the_standard_library_calls_special_is_never_public(bits: u32, wide: u128) {
            let v4 = Ipv4Addr::from(bits);
            let special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
                || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified();
            prop_assert!(!(special && is_public(v4.into())), "{v4}");
            // However IPv4 is written as IPv6, that does not make it public.
            for v6 in [v4.to_ipv6_mapped(), v4.to_ipv6_compatible()] {
                prop_assert!(!is_public(v6.into()), "{v6}");
            }
            let translated = Ipv6Addr::from((0x0064_ff9b_u128 << 96) | u128::from(bits));
            prop_assert_eq!(is_public(translated.into()), is_public(v4.into()));
            let v6 = Ipv6Addr::from(wide);
            let special = v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unique_local()
                || v6.is_unicast_link_local() || v6.to_ipv4().is_some();
            prop_assert!(!(special && is_public(v6.into())), "{v6}");
        }
    }
}
