//! What the kernel says of this process, under Prometheus' common names.
//!
//! Owns: `process_*` and `os_fd_*`. Must not know: the store. A newcomer's trap: it is read when it
//! is asked for, so a scrape pays for it and no request does.

use prometheus::{Counter, Gauge, IntCounter, IntGauge, Registry};

use super::register;

/// The collectors.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    fd_used: IntGauge,
    fd_limit: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    cpu_seconds: Counter,
    resident_bytes: IntGauge,
    virtual_bytes: IntGauge,
    virtual_max_bytes: Gauge,
    start_seconds: Gauge,
    received_bytes: IntCounter,
    sent_bytes: IntCounter,
}

// === impl ProcessMetrics ===

impl ProcessMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let whole = |name: &str, help: &str| register(registry, IntGauge::new(name, help));
        let real = |name: &str, help: &str| register(registry, Gauge::new(name, help));
        let count = |name: &str, help: &str| register(registry, IntCounter::new(name, help));
        Self {
            fd_used: whole("os_fd_used", "File descriptors in use."),
            fd_limit: whole("os_fd_limit", "File descriptors allowed."),
            open_fds: whole("process_open_fds", "File descriptors in use."),
            max_fds: whole("process_max_fds", "File descriptors allowed."),
            cpu_seconds: register(
                registry,
                Counter::new("process_cpu_seconds_total", "Processor time spent."),
            ),
            resident_bytes: whole("process_resident_memory_bytes", "Resident memory."),
            virtual_bytes: whole("process_virtual_memory_bytes", "Virtual memory."),
            virtual_max_bytes: real(
                "process_virtual_memory_max_bytes",
                "Virtual memory allowed; -1 = without limit.",
            ),
            start_seconds: real("process_start_time_seconds", "When the process started."),
            received_bytes: count(
                "process_network_receive_bytes_total",
                "Bytes received in the process's network namespace.",
            ),
            sent_bytes: count(
                "process_network_transmit_bytes_total",
                "Bytes sent in the process's network namespace.",
            ),
        }
    }

    /// Looks.
    pub(super) fn refresh(&self) {
        let (used, limit) = descriptors();
        self.fd_used.set(used);
        self.fd_limit.set(limit);
        self.open_fds.set(used);
        self.max_fds.set(limit);
        let address_space = rustix::process::getrlimit(rustix::process::Resource::As).current;
        self.virtual_max_bytes.set(address_space.map_or(-1.0, |bytes| bytes as f64));
        if let Some((received, sent)) = traffic() {
            self.received_bytes.inc_by(received.saturating_sub(self.received_bytes.get()));
            self.sent_bytes.inc_by(sent.saturating_sub(self.sent_bytes.get()));
        }
        let Some(seen) = Seen::now() else { return };
        self.cpu_seconds.inc_by((seen.cpu_seconds - self.cpu_seconds.get()).max(0.0));
        self.resident_bytes.set(seen.resident_bytes);
        self.virtual_bytes.set(seen.virtual_bytes);
        self.start_seconds.set(seen.start_seconds);
    }
}

/// File descriptors in use, and how many may be.
pub(crate) fn descriptors() -> (i64, i64) {
    let used = std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as i64);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    (used, limit.map_or(i64::MAX, |limit| limit as i64))
}

/// Bytes received and sent, as the kernel counts them for a network namespace.
fn traffic() -> Option<(u64, u64)> {
    octets(&std::fs::read_to_string("/proc/self/net/netstat").ok()?)
}

/// From `/proc/self/net/netstat`: pairs of lines, names and values.
fn octets(netstat: &str) -> Option<(u64, u64)> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let value = |name: &str| {
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        pairs.find(|(of, _)| *of == name).and_then(|(_, value)| value.parse().ok())
    };
    Some((value("InOctets")?, value("OutOctets")?))
}

struct Seen {
    cpu_seconds: f64,
    resident_bytes: i64,
    virtual_bytes: i64,
    start_seconds: f64,
}

impl Seen {
    fn now() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let boot = std::fs::read_to_string("/proc/stat").ok()?;
        Self::read(&stat, &boot)
    }

    /// From `/proc/self/stat` and `/proc/stat`.
    fn read(stat: &str, boot: &str) -> Option<Self> {
        // The name, in brackets, may hold anything.
        let (_, stat) = stat.rsplit_once(')')?;
        let field = |number: usize| stat.split_whitespace().nth(number - 3);
        let number = |n: usize| field(n).and_then(|field| field.parse::<i64>().ok());
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let booted = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
        Some(Self {
            cpu_seconds: (number(14)? + number(15)?) as f64 / ticks,
            virtual_bytes: number(23)?,
            resident_bytes: number(24)? * rustix::param::page_size() as i64,
            start_seconds: booted.trim().parse::<f64>().ok()? + number(22)? as f64 / ticks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let seen = Seen::now().unwrap();
        assert!(seen.resident_bytes > 1 << 20 && seen.virtual_bytes >= seen.resident_bytes);
        assert!(seen.start_seconds > 1e9 && seen.cpu_seconds >= 0.0);
        let (received, sent) = traffic().unwrap();
        assert_eq!(octets("IpExt: A InOctets OutOctets\nIpExt: 1 2 3\n"), Some((2, 3)));
        assert!(octets("IpExt: A\nIpExt: 1\n").is_none() && received.min(sent) < u64::MAX);
        let odd = "1 (a) b c) S 1 1 1 0 -1 0 0 0 0 0 200 300 0 0 20 0 1 0 1000 4096 2 0";
        let seen = Seen::read(odd, "cpu 1\nbtime 5\n").unwrap();
        assert!(seen.cpu_seconds > 0.0 && seen.virtual_bytes == 4096);
    }
}
