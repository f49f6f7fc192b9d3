//! systemd's journal.
//!
//! Owns: its datagrams. A newcomer's trap: the journal has levels of its own; they are taken from the
//! line, which begins with its level in JSON and has it in the second column otherwise.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;

const SOCKET: &str = "/run/systemd/journal/socket";

/// A connection to the journal.
pub(super) struct Journal(UnixDatagram);

impl Journal {
    pub(super) fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET)?;
        Ok(Self(socket))
    }
}

impl Write for Journal {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.send(&entry(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A line as the journal takes it; lines hold no line feeds but their last.
fn entry(line: &[u8]) -> Vec<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let head = &line[..line.len().min(64)];
    let says = |level: &str| {
        let (json, columns) = (format!("{{\"level\":\"{level}\""), format!("\t{level}\t"));
        head.starts_with(json.as_bytes())
            || head.windows(columns.len()).any(|part| part == columns.as_bytes())
    };
    let priority = if says("error") {
        3
    } else if says("warn") {
        4
    } else if says("debug") {
        7
    } else {
        6
    };
    let mut entry = format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER=etcd\nMESSAGE=").into_bytes();
    entry.extend_from_slice(line);
    entry.push(b'\n');
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_an_entry_of_its_level() {
        let text = |line: &str| String::from_utf8(entry(line.as_bytes())).unwrap();
        let line = "{\"level\":\"warn\",\"ts\":\"x\"}";
        assert_eq!(
            text(&format!("{line}\n")),
            format!("PRIORITY=4\nSYSLOG_IDENTIFIER=etcd\nMESSAGE={line}\n")
        );
        assert!(text("2023\terror\tx\n").starts_with("PRIORITY=3\n"));
        assert!(text("2023\tinfo\tx\n").starts_with("PRIORITY=6\n"));
    }
}
