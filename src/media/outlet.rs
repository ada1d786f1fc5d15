//! Runs of datagrams given to the kernel: many in one call where it takes that.
//!
//! Beside the calls saved, a run of one datagram carries no control message, which the kernel would look through.

#[cfg(target_os = "linux")]
pub use many::Outlet;
#[cfg(not(target_os = "linux"))]
pub use one_by_one::Outlet;

#[cfg(target_os = "linux")]
mod many {
    use std::{
        io::{self, IoSlice},
        net::IpAddr,
        os::fd::AsRawFd,
    };

    use mio::net::UdpSocket;
    use nix::{
        cmsg_space, libc,
        sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg},
    };
    use quinn_udp::UdpSocketState;
    use smallvec::SmallVec;

    use crate::media::egress::{GROUP_MAX, Group};

    /// The control messages of a call; its headers have the place for these and no others.
    #[derive(Clone, Copy)]
    struct Controls {
        segment: Option<u16>,
        local: Option<Local>,
    }

    #[derive(Clone, Copy)]
    enum Local {
        V4(libc::in_pktinfo),
        V6(libc::in6_pktinfo),
    }

    impl Controls {
        fn of(group: &Group) -> Self {
            let local = |address| match address {
                IpAddr::V4(address) => Local::V4(libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                }),
                IpAddr::V6(address) => Local::V6(libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: address.octets() },
                    ipi6_ifindex: 0,
                }),
            };
            Self { segment: group.segment.map(|bytes| bytes as u16), local: group.local.map(local) }
        }

        fn messages(&self) -> SmallVec<[ControlMessage<'_>; 2]> {
            let local = self.local.as_ref().map(|local| match local {
                Local::V4(info) => ControlMessage::Ipv4PacketInfo(info),
                Local::V6(info) => ControlMessage::Ipv6PacketInfo(info),
            });
            self.segment.iter().map(ControlMessage::UdpGsoSegments).chain(local).collect()
        }

        /// Which of a few sets of headers is theirs.
        fn place(&self) -> usize {
            let local = self.local.map_or(0, |local| if matches!(local, Local::V4(_)) { 1 } else { 2 });
            2 * local + usize::from(self.segment.is_some())
        }

        fn headers(&self) -> MultiHeaders<SockaddrStorage> {
            let space = match (self.segment, self.local) {
                (None, None) => None,
                (Some(_), None) => Some(cmsg_space!(u16)),
                (None, Some(Local::V4(_))) => Some(cmsg_space!(libc::in_pktinfo)),
                (None, Some(Local::V6(_))) => Some(cmsg_space!(libc::in6_pktinfo)),
                (Some(_), Some(Local::V4(_))) => Some(cmsg_space!(u16, libc::in_pktinfo)),
                (Some(_), Some(Local::V6(_))) => Some(cmsg_space!(u16, libc::in6_pktinfo)),
            };
            MultiHeaders::preallocate(GROUP_MAX, space)
        }
    }

    /// Headers for `sendmmsg`, a set for each combination of control messages.
    #[derive(Default)]
    pub struct Outlet {
        headers: [Option<MultiHeaders<SockaddrStorage>>; 6],
    }

    impl Outlet {
        /// How many runs of the group went, at least one; or why the first did not.
        pub fn send(&mut self, socket: &UdpSocket, _: &UdpSocketState, group: &Group) -> io::Result<usize> {
            let controls = Controls::of(group);
            let headers = self.headers[controls.place()].get_or_insert_with(|| controls.headers());
            let contents: SmallVec<[[IoSlice; 1]; GROUP_MAX]> =
                group.iter().map(|(_, contents)| [IoSlice::new(contents)]).collect();
            let remotes: SmallVec<[Option<SockaddrStorage>; GROUP_MAX]> =
                group.iter().map(|(remote, _)| Some(SockaddrStorage::from(remote))).collect();
            let (flags, messages) = (MsgFlags::empty(), controls.messages());
            let sent = sendmmsg(socket.as_raw_fd(), headers, contents.iter(), &remotes, messages, flags)?;
            Ok(sent.count())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod one_by_one {
    use std::io;

    use mio::net::UdpSocket;
    use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};

    use crate::media::egress::Group;

    #[derive(Default)]
    pub struct Outlet;

    impl Outlet {
        /// How many runs of the group went: one; or why it did not.
        pub fn send(&mut self, socket: &UdpSocket, state: &UdpSocketState, group: &Group) -> io::Result<usize> {
            let Some((destination, contents)) = group.iter().next() else { return Ok(0) };
            let (segment_size, src_ip) = (group.segment, group.local);
            let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip };
            state.try_send(UdpSockRef::from(socket), &transmit).map(|()| 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr, SocketAddr},
        time::{Duration, Instant},
    };

    use mio::net::UdpSocket;
    use quinn_udp::{UdpSockRef, UdpSocketState};

    use super::Outlet;
    use crate::media::egress::{Egress, Path};

    /// Sends from one socket to others, in every combination of control messages; all must arrive whole and in order.
    fn arrives(from: &str, to: &str, local: Option<IpAddr>) {
        let bind = |address: &str| UdpSocket::bind(address.parse().unwrap()).unwrap();
        let sender = bind(from);
        let state = UdpSocketState::new(UdpSockRef::from(&sender)).unwrap();
        let receivers: Vec<UdpSocket> = (0..70).map(|_| bind(to)).collect();
        let mut egress = Egress::new(1 << 20, state.max_gso_segments());
        let lens = [1_000, 1_000, 1_000, 400, 90];
        for receiver in &receivers {
            let remote = receiver.local_addr().unwrap();
            for (n, len) in lens.into_iter().enumerate() {
                egress.push(Path { remote, local }, &vec![n as u8; len]).unwrap();
            }
        }
        let mut outlet = Outlet::default();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !egress.is_empty() {
            assert_eq!(egress.flush(|group| outlet.send(&sender, &state, group)), 0);
            assert!(Instant::now() < deadline, "the socket takes nothing");
        }
        let mut buffer = [0; 2_000];
        for receiver in &receivers {
            for (n, len) in lens.into_iter().enumerate() {
                let (got, source) = receiver.recv_from(&mut buffer).expect("loopback delivers within the send");
                assert_eq!((got, buffer[0]), (len, n as u8));
                assert!(local.is_none_or(|local| source.ip() == local), "{source}");
            }
        }
    }

    #[test]
    fn runs_to_many_arrive_as_datagrams() {
        arrives("127.0.0.1:0", "127.0.0.1:0", None);
    }

    #[test]
    fn they_leave_from_the_address_that_is_named() {
        arrives("0.0.0.0:0", "127.0.0.1:0", Some(Ipv4Addr::new(127, 0, 0, 9).into()));
    }

    #[test]
    fn they_do_over_ipv6_too() {
        if UdpSocket::bind("[::1]:0".parse::<SocketAddr>().unwrap()).is_ok() {
            arrives("[::]:0", "[::1]:0", Some("::1".parse().unwrap()));
        }
    }
}
