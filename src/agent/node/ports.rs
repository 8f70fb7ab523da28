//! Who holds a port of this machine.

use std::net::SocketAddr;

use procfs::{
    net::{TcpState, tcp, tcp6, udp, udp6},
    process::{FDTarget, Process, all_processes},
};

use crate::api::Protocol;

/// In words, whoever listens on a port; `None` if nobody does.
pub(super) fn holder(port: u16, protocol: Protocol) -> Option<String> {
    let socket = socket(port, protocol)?;
    let process = all_processes().ok()?.filter_map(Result::ok).find(|process| holds(process, socket));
    Some(match process.and_then(|process| process.stat().ok()) {
        Some(stat) => format!("process {} ({})", stat.pid, stat.comm),
        // Another user's descriptors are not for everybody to see.
        None => "another process".to_owned(),
    })
}

fn socket(port: u16, protocol: Protocol) -> Option<u64> {
    let is_it = |address: SocketAddr| address.port() == port;
    match protocol {
        Protocol::Tcp => {
            let all = [tcp(), tcp6()].into_iter().filter_map(Result::ok).flatten();
            let mut held = all.filter(|entry| entry.state == TcpState::Listen && is_it(entry.local_address));
            held.next().map(|entry| entry.inode)
        }
        Protocol::Udp => {
            let all = [udp(), udp6()].into_iter().filter_map(Result::ok).flatten();
            // One that talks to somebody has a port by chance.
            let mut held = all.filter(|entry| entry.remote_address.port() == 0 && is_it(entry.local_address));
            held.next().map(|entry| entry.inode)
        }
    }
}

fn holds(process: &Process, socket: u64) -> bool {
    let all = process.fd().into_iter().flatten().filter_map(Result::ok);
    all.into_iter().any(|fd| fd.target == FDTarget::Socket(socket))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn this_process_holds_what_it_listens_on() {
        let own = format!("process {} (", std::process::id());
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(holder(tcp.local_addr().unwrap().port(), Protocol::Tcp).unwrap().starts_with(&own));
        let udp = UdpSocket::bind("[::1]:0").or_else(|_| UdpSocket::bind("127.0.0.1:0")).unwrap();
        assert!(holder(udp.local_addr().unwrap().port(), Protocol::Udp).unwrap().starts_with(&own));
        assert_eq!(holder(0, Protocol::Tcp), None);
    }
}
