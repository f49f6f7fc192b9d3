//! Where lines go: streams, files, the journal, or several of them.
//!
//! Owns: opening and writing. Must not know: what a line says. A newcomer's trap: an output that
//! fails is left alone; a member does not stop because nobody can read its log.

use std::io::{self, Write};
use std::path::Path;

use super::LogError;
use super::journal::Journal;
use super::rotate::Rotated;
use crate::config::LogSettings;

/// All outputs.
pub(super) struct Outputs(Vec<Box<dyn Write + Send>>);

impl Outputs {
    pub(super) fn open(settings: &LogSettings) -> Result<Self, LogError> {
        // zap: whoever names this wants nothing at all.
        if settings.outputs.iter().any(|output| output == "/dev/null") {
            return Ok(Self(Vec::new()));
        }
        let mut names: Vec<&str> = settings
            .outputs
            .iter()
            .map(|output| match output.as_str() {
                "default" => "stderr",
                output => output,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        let mut outputs: Vec<Box<dyn Write + Send>> = Vec::new();
        for name in names {
            let opened = open(name, settings);
            let failed = |source| LogError { output: name.to_owned(), source };
            outputs.push(opened.map_err(failed)?);
        }
        Ok(Self(outputs))
    }
}

fn open(name: &str, settings: &LogSettings) -> io::Result<Box<dyn Write + Send>> {
    Ok(match name {
        "stderr" => Box::new(io::stderr()),
        "stdout" => Box::new(io::stdout()),
        "systemd/journal" => Box::new(Journal::open()?),
        path => match settings.rotation {
            Some(rotation) => Box::new(Rotated::open(Path::new(path), rotation)?),
            None => Box::new(std::fs::File::options().create(true).append(true).open(path)?),
        },
    })
}

impl Write for Outputs {
    /// One call is one line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        for output in &mut self.0 {
            let _ = output.write_all(line).and_then(|()| output.flush());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_gets_every_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let settings = |outputs: &[String]| LogSettings {
            outputs: outputs.to_vec(),
            ..LogSettings::default()
        };
        let (a, b) = (path("a"), path("b"));
        for line in ["one\n", "two\n"] {
            // Opened anew: what was written stays.
            let mut outputs = Outputs::open(&settings(&[a.clone(), b.clone(), a.clone()])).unwrap();
            outputs.write_all(line.as_bytes()).unwrap();
        }
        for file in [&a, &b] {
            assert_eq!(std::fs::read_to_string(file).unwrap(), "one\ntwo\n");
        }
        let nothing = settings(&["/dev/null".into(), path("c")]);
        Outputs::open(&nothing).unwrap().write_all(b"x\n").unwrap();
        assert!(!dir.path().join("c").exists());
        let error = Outputs::open(&settings(&[path("no/such/folder")])).err().unwrap();
        assert!(error.to_string().contains("no/such/folder: No such file"), "{error}");
    }
}
