//! What this machine is: sizes, versions, addresses, read from /proc and the kernel.
//!
//! Must not know: Kubernetes objects. A newcomer's trap: a simulated node gets a made-up machine
//! from [`Machine::hollow`], so nothing else in the agent reads /proc for a Node's fields.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

use rustix::fs::StatVfs;

/// The facts a Node reports about its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// CPUs.
    pub cpus: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of the file system under the data folder.
    pub disk_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// `PRETTY_NAME` of os-release.
    pub os_image: String,
    /// /etc/machine-id.
    pub machine_id: String,
    /// DMI product uuid, or the machine id.
    pub system_uuid: String,
    /// The kernel's boot id.
    pub boot_id: String,
}

impl Machine {
    /// Reads this machine.
    pub fn read(data: &Path) -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let machine_id = file("/etc/machine-id");
        let uuid = file("/sys/class/dmi/id/product_uuid");
        let disk = rustix::fs::statvfs(data).map_or(0, |stat| stat.f_blocks * stat.f_frsize);
        Self {
            cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
            memory_bytes: meminfo("MemTotal").unwrap_or(0),
            disk_bytes: disk,
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            os_image: os_image(&file("/etc/os-release")),
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id: file("/proc/sys/kernel/random/boot_id"),
        }
    }

    /// The machine of a simulated node: 32 CPUs and 256 GiB, so that pods count before anything.
    pub fn hollow(name: &str) -> Self {
        let id = &crate::image::hex_sha256(name.as_bytes())[..32];
        Self {
            cpus: 32,
            memory_bytes: 256 << 30,
            disk_bytes: 100 << 30,
            kernel: "6.1.0-hollow".to_owned(),
            os_image: "Kijabi hollow node".to_owned(),
            machine_id: id.to_owned(),
            system_uuid: id.to_owned(),
            boot_id: id.to_owned(),
        }
    }
}

/// One value of /proc/meminfo in bytes.
fn meminfo(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line =
        text.lines().find(|line| line.starts_with(key) && line[key.len()..].starts_with(':'))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn os_image(os_release: &str) -> String {
    os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// How short the machine is of something, for the pressure conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Less than 100 MiB of memory is available (the kubelet's default threshold).
    pub memory: bool,
    /// Less than a twentieth of the disk's usable bytes, or of its inodes, is free (k3s's thresholds).
    // Differs from Kubernetes: the kubelet's are a tenth of the disk and 15 % for images, which
    // many a developer's machine does not have; k3s has set both to 5 % for that reason.
    pub disk: bool,
    /// Less than a twentieth of the process ids is free.
    pub pid: bool,
}

impl Pressure {
    /// Looks now.
    pub fn read(data: &Path) -> Self {
        let disk = rustix::fs::statvfs(data).is_ok_and(|stat| is_short(&stat));
        let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let processes = || {
            let load = std::fs::read_to_string("/proc/loadavg").ok()?;
            load.split_whitespace().nth(3)?.split_once('/')?.1.parse::<u64>().ok()
        };
        let pid = match (number("/proc/sys/kernel/pid_max"), processes()) {
            (Some(max), Some(used)) => max.saturating_sub(used) * 20 < max,
            _ => false,
        };
        let memory = meminfo("MemAvailable").is_some_and(|bytes| bytes < 100 << 20);
        Self { memory, disk, pid }
    }
}

/// Whether a file system is nearly full. What is kept back for root is no part of what can be used,
/// as `df` counts it.
fn is_short(disk: &StatVfs) -> bool {
    let used = disk.f_blocks.saturating_sub(disk.f_bfree);
    let short = |available: u64, all: u64| available.saturating_mul(20) < all;
    short(disk.f_bavail, used + disk.f_bavail) || short(disk.f_favail, disk.f_files)
}

/// The address other nodes reach this one under: the source address of the default route.
pub fn own_address() -> IpAddr {
    // A UDP socket that is "connected" sends nothing; the kernel only picks the source address.
    let probe = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9)))?;
        Ok(socket.local_addr()?.ip())
    };
    probe().ok().filter(|ip| !ip.is_unspecified()).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_gives_the_pretty_name() {
        assert_eq!(os_image("ID=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        assert_eq!(os_image(""), "Linux");
    }

    #[test]
    fn a_disk_is_short_when_a_twentieth_of_what_df_shows_is_free() {
        let mut disk = rustix::fs::statvfs("/").unwrap();
        disk.f_blocks = 2_000;
        (disk.f_files, disk.f_favail) = (1_000, 1_000);
        // (free, available): the rest of the free blocks is kept back for root.
        for (free, available, short) in [
            (1_100, 100, false),
            (1_100, 50, false),
            (1_100, 46, true),
            (100, 100, false),
            (99, 99, true),
            (0, 0, true),
        ] {
            (disk.f_bfree, disk.f_bavail) = (free, available);
            assert_eq!(is_short(&disk), short, "{free} {available}");
        }
        (disk.f_bfree, disk.f_bavail, disk.f_favail) = (1_000, 1_000, 49);
        assert!(is_short(&disk), "no inodes");
        disk.f_files = 0;
        assert!(!is_short(&disk), "a file system that does not count inodes");
    }

    #[test]
    fn this_machine_has_cpus_memory_and_a_kernel() {
        let machine = Machine::read(Path::new("/"));
        assert!(machine.cpus > 0 && machine.memory_bytes > 0 && machine.disk_bytes > 0);
        assert!(!machine.kernel.is_empty());
    }
}
