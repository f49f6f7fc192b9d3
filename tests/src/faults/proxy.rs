//! A TCP proxy in front of each member's advertised peer URL; it cuts links, also in one direction.
//!
//! Owns: which member may send to which, and the connections between them. Must not know: what is
//! sent. A newcomer's trap: a cut link loses nothing; bytes wait, as with TCP when packets are
//! dropped, until the link is whole or the connection is given up. In front of a process that has
//! ended nobody listens: connections are refused, as without the proxy.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use kijabi_base::tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 << 10;
/// How often to try to have the port again.
const BIND_INTERVAL: Duration = Duration::from_millis(5);

/// Who may send to whom.
#[derive(Debug)]
pub(super) struct Links {
    members: usize,
    cut: RwLock<Vec<bool>>,
    /// Whose process has ended.
    ended: Vec<AtomicBool>,
    /// How many connections to each member were accepted.
    accepted: Vec<watch::Sender<u64>>,
    changed: watch::Sender<u64>,
    /// The process ids, to tell who has dialed.
    pids: Vec<AtomicU32>,
}

impl Links {
    pub(super) fn new(members: usize) -> Arc<Self> {
        Arc::new(Self {
            members,
            cut: RwLock::new(vec![false; members * members]),
            ended: (0..members).map(|_| AtomicBool::new(false)).collect(),
            accepted: (0..members).map(|_| watch::Sender::new(0)).collect(),
            changed: watch::channel(0).0,
            pids: (0..members).map(|_| AtomicU32::new(0)).collect(),
        })
    }

    pub(super) fn set_pid(&self, member: usize, pid: u32) {
        self.pids[member].store(pid, Ordering::SeqCst);
    }

    /// Whether the process of `member` has ended, so that nobody is to listen for it.
    pub(super) fn set_ended(&self, member: usize, ended: bool) {
        self.ended[member].store(ended, Ordering::SeqCst);
        self.changed.send_modify(|count| *count += 1);
    }

    /// How many connections to `member` were accepted, now and later.
    pub(super) fn accepted(&self, member: usize) -> watch::Receiver<u64> {
        self.accepted[member].subscribe()
    }

    /// Waits until the process of `member` has ended, or until it has not.
    async fn until_ended(&self, member: usize, ended: bool) {
        let mut changed = self.changed.subscribe();
        while self.ended[member].load(Ordering::SeqCst) != ended {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Cuts or mends what `from` sends to `to`.
    pub(super) fn set(&self, from: usize, to: usize, cut: bool) {
        self.cut.write().unwrap_or_else(PoisonError::into_inner)[from * self.members + to] = cut;
        self.changed.send_modify(|count| *count += 1);
    }

    /// Mends every link.
    pub(super) fn heal(&self) {
        self.cut.write().unwrap_or_else(PoisonError::into_inner).fill(false);
        self.changed.send_modify(|count| *count += 1);
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.read().unwrap_or_else(PoisonError::into_inner)[from * self.members + to]
    }

    fn is_any_cut(&self) -> bool {
        self.cut.read().unwrap_or_else(PoisonError::into_inner).contains(&true)
    }

    /// The member whose process has the other end of a connection that came from `port`.
    fn dialer(&self, port: u16, own_port: u16) -> Option<usize> {
        let inode = inode_of(port, own_port)?;
        let socket = format!("socket:[{inode}]");
        (0..self.members).find(|member| {
            let pid = self.pids[*member].load(Ordering::SeqCst);
            let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
            files.flatten().any(|file| {
                fs::read_link(file.path()).is_ok_and(|to| to.to_str() == Some(socket.as_str()))
            })
        })
    }
}

/// A connection to a member.
struct Proxied {
    links: Arc<Links>,
    member: usize,
    /// Where it comes from, and where it was accepted.
    port: u16,
    own_port: u16,
    /// Who has dialed; `None` if that process has gone. Only asked when a link is cut: looking
    /// through the sockets of the machine takes longer than an election.
    dialer: OnceLock<Option<usize>>,
}

/// Which way bytes go.
#[derive(Clone, Copy)]
enum Way {
    ToMember,
    FromMember,
}

impl Proxied {
    /// Waits until bytes may go this way; whether they ever may.
    async fn open(&self, way: Way) -> bool {
        let mut changed = self.links.changed.subscribe();
        while self.links.is_any_cut() {
            let asked = || self.links.dialer(self.port, self.own_port);
            let Some(dialer) = *self.dialer.get_or_init(asked) else { return false };
            let (from, to) = match way {
                Way::ToMember => (dialer, self.member),
                Way::FromMember => (self.member, dialer),
            };
            if !self.links.is_cut(from, to) {
                return true;
            }
            if changed.changed().await.is_err() {
                return false;
            }
        }
        true
    }

    async fn carry(&self, near: TcpStream, target: u16) {
        // A connection is made of bytes in both directions.
        if !self.open(Way::ToMember).await || !self.open(Way::FromMember).await {
            return;
        }
        let Ok(far) = TcpStream::connect(("127.0.0.1", target)).await else { return };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        // The end of either direction ends both: that is how a killed process looks.
        tokio::select! {
            () = self.forward(Way::ToMember, near_in, far_out) => {}
            () = self.forward(Way::FromMember, far_in, near_out) => {}
        }
    }

    async fn forward(&self, way: Way, mut source: OwnedReadHalf, mut target: OwnedWriteHalf) {
        let mut buffer = vec![0; CHUNK_BYTES];
        while self.open(way).await {
            let Ok(count) = source.read(&mut buffer).await else { return };
            // What was sent before the cut but not yet carried is cut, too.
            if count == 0 || !self.open(way).await {
                return;
            }
            if target.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    }
}

/// The inode of the socket that is bound to `port` and connected to `remote`, both on loopback.
fn inode_of(port: u16, remote: u16) -> Option<String> {
    const LOOPBACK: &str = "0100007F";
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let (local, remote) = (format!("{LOOPBACK}:{port:04X}"), format!("{LOOPBACK}:{remote:04X}"));
    table.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let found = words.next()? == local && words.next()? == remote;
        found.then(|| words.nth(6).unwrap_or_default().to_owned())
    })
}

/// Listens at `own_port` in front of `member`, whose own port is `target`.
pub(super) async fn listen(
    member: usize,
    own_port: u16,
    target: u16,
    links: Arc<Links>,
) -> io::Result<()> {
    let mut listener = Some(TcpListener::bind(("127.0.0.1", own_port)).await?);
    tasks::spawn("proxy", async move {
        loop {
            let open = match listener.take() {
                Some(open) => open,
                None => match TcpListener::bind(("127.0.0.1", own_port)).await {
                    Ok(open) => open,
                    Err(_in_use) => {
                        tokio::time::sleep(BIND_INTERVAL).await;
                        continue;
                    }
                },
            };
            tokio::select! {
                () = accept(&open, member, (own_port, target), &links) => {}
                () = links.until_ended(member, true) => {}
            }
            drop(open);
            links.until_ended(member, false).await;
        }
    });
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    member: usize,
    (own_port, target): (u16, u16),
    links: &Arc<Links>,
) {
    while let Ok((stream, from)) = listener.accept().await {
        links.accepted[member].send_modify(|count| *count += 1);
        let (links, port) = (Arc::clone(links), from.port());
        let proxied = Proxied { links, member, port, own_port, dialer: OnceLock::new() };
        tasks::spawn("proxied", async move { proxied.carry(stream, target).await });
    }
}
