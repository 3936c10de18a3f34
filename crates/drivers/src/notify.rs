//! Datagrams to those who subscribed to events: a thread of its own looks up names and sends, so
//! that nothing that is slow outside ever slows a node down.

use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use bytes::Bytes;

/// Notifications that may wait for the thread; further ones are dropped.
const WAITING_MAX: usize = 4_096;

/// Where a notification goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// A host name or address, and a port.
    Udp(String, u16),
    Unix(PathBuf),
    /// A FIFO that somebody reads.
    Fifo(PathBuf),
}

/// The sending side. Dropping it ends the thread.
#[derive(Debug)]
pub struct Notifier(SyncSender<(To, Bytes)>);

impl Notifier {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn spawn() -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || Sockets::default().serve(&receiver))?;
        Ok(Self(sender))
    }

    /// Hands a datagram over; false when too many wait already and this one is lost.
    pub fn send(&self, to: To, payload: Bytes) -> bool {
        !matches!(self.0.try_send((to, payload)), Err(TrySendError::Full(_)))
    }
}

/// Opened on first use.
#[derive(Default)]
struct Sockets {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    unix: Option<UnixDatagram>,
}

impl Sockets {
    fn serve(mut self, from: &Receiver<(To, Bytes)>) {
        while let Ok((to, payload)) = from.recv() {
            // Datagrams may be lost; a subscriber that is gone is nobody's fault.
            let _ = match to {
                To::Udp(host, port) => self.udp(&host, port, &payload),
                To::Unix(path) => self.unix(&path, &payload),
                To::Fifo(path) => fifo(&path, &payload),
            };
        }
    }

    #[expect(clippy::disallowed_methods, reason = "drivers own sockets")]
    fn udp(&mut self, host: &str, port: u16, payload: &[u8]) -> std::io::Result<()> {
        let Some(to) = (host, port).to_socket_addrs()?.next() else { return Ok(()) };
        let (slot, any): (_, SocketAddr) = if to.is_ipv4() {
            (&mut self.v4, (Ipv4Addr::UNSPECIFIED, 0).into())
        } else {
            (&mut self.v6, (Ipv6Addr::UNSPECIFIED, 0).into())
        };
        let socket = match slot {
            Some(socket) => socket,
            None => slot.insert(UdpSocket::bind(any)?),
        };
        socket.send_to(payload, to).map(|_| ())
    }

    fn unix(&mut self, path: &std::path::Path, payload: &[u8]) -> std::io::Result<()> {
        let socket = match &mut self.unix {
            Some(socket) => socket,
            None => {
                let socket = UnixDatagram::unbound()?;
                // A reader that does not read must not hold up the others.
                socket.set_nonblocking(true)?;
                self.unix.insert(socket)
            }
        };
        socket.send_to(payload, path).map(|_| ())
    }
}

/// Writes to a FIFO without waiting for a reader; other files are left alone.
fn fifo(path: &std::path::Path, payload: &[u8]) -> std::io::Result<()> {
    if !path.metadata()?.file_type().is_fifo() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let mut file = std::fs::File::options().write(true).custom_flags(flags).open(path)?;
    file.write_all(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const WAIT: Duration = Duration::from_secs(10);

    #[test]
    fn a_reader_of_a_fifo_gets_what_is_written_and_no_other_file_is_touched() {
        use std::io::Read as _;
        let folder = std::env::temp_dir().join(format!("tandem-fifo-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (path, plain) = (folder.join("fifo"), folder.join("plain"));
        let _ = std::fs::remove_file(&path);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(&plain, "kept").unwrap();
        assert!(fifo(&path, b"nobody reads").is_err());
        assert!(fifo(&plain, b"x").is_err());
        let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
        let mut reader =
            std::fs::File::options().read(true).custom_flags(flags).open(&path).unwrap();
        fifo(&path, b"request").unwrap();
        let mut buffer = [0; 32];
        let length = reader.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"request");
        assert_eq!(std::fs::read(&plain).unwrap(), b"kept");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "drivers own sockets")]
    fn datagrams_arrive_over_udp_and_unix() {
        let notifier = Notifier::spawn().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.set_read_timeout(Some(WAIT)).unwrap();
        let port = udp.local_addr().unwrap().port();
        let path = std::env::temp_dir().join(format!("tandem-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let unix = UnixDatagram::bind(&path).unwrap();
        unix.set_read_timeout(Some(WAIT)).unwrap();
        assert!(notifier.send(To::Unix("/nowhere".into()), Bytes::from_static(b"lost")));
        assert!(notifier.send(To::Udp("127.0.0.1".into(), port), Bytes::from_static(b"u")));
        assert!(notifier.send(To::Unix(path.clone()), Bytes::from_static(b"x")));
        let mut buffer = [0; 9];
        assert_eq!(udp.recv(&mut buffer).unwrap(), 1);
        assert_eq!(unix.recv(&mut buffer).unwrap(), 1);
        let _ = std::fs::remove_file(&path);
    }
}
