//! Snapshots of the state: as linked files on this machine, and as a checksummed stream.
//!
//! Owns: taking, streaming, verifying and installing them. Must not know: who sends or receives. A
//! newcomer's trap: a received snapshot becomes the state by one atomic replacement of a pointer;
//! whatever a crash leaves half done is removed at the next start.

mod stream;

use std::io;
use std::path::{Path, PathBuf};

use kijabi_machine::state::StateError;

pub use stream::{StreamError, receive, send};

use crate::small;
use crate::state::State;
use crate::vfs::{RealVfs, Vfs};

/// The folder of the states: the current one, and others while a snapshot comes or goes.
#[derive(Clone, Debug)]
pub struct StateHome {
    dir: PathBuf,
}

/// A state as it was at one moment, in files linked with the current ones. Removed when dropped.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
}

const CURRENT: &str = "CURRENT";
const FIRST: &str = "state-1";

// === impl StateHome ===

impl StateHome {
    /// Opens the current state in `dir`, or begins an empty one, and removes leftovers.
    pub fn open(dir: &Path) -> Result<(Self, State), StateError> {
        let failed = |error: io::Error| StateError(format!("{}: {error}", dir.display()));
        RealVfs.create_dir(dir).map_err(failed)?;
        let current = match small::load(&dir.join(CURRENT)).map_err(failed)? {
            Some(name) => String::from_utf8_lossy(&name).into_owned(),
            None => FIRST.to_owned(),
        };
        if !current.starts_with("state-") || current.contains('/') {
            let what = format!("{CURRENT} names {current:?}, which is no state");
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        remove_leftovers(&RealVfs, dir, &current).map_err(failed)?;
        let state = State::open(&dir.join(current))?;
        Ok((Self { dir: dir.to_owned() }, state))
    }

    /// Links the state as it is now; the caller keeps writers away.
    pub fn checkpoint(&self, state: &State, name: &str) -> Result<Checkpoint, StateError> {
        let path = self.dir.join(format!("checkpoint-{name}"));
        remove(&path)?;
        state.checkpoint(&path)?;
        Ok(Checkpoint { path })
    }

    /// An empty file beside the states that has no name: it is gone with its last user.
    pub fn scratch(&self) -> io::Result<std::fs::File> {
        use std::os::unix::fs::OpenOptionsExt as _;

        let path = self.dir.join(format!("scratch-{}", kijabi_base::rng::positive_i64()));
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }

    /// A place for a state that is being received.
    pub fn stage(&self) -> Result<PathBuf, StateError> {
        let path = self.dir.join(format!("state-{}", kijabi_base::rng::positive_i64()));
        remove(&path)?;
        Ok(path)
    }

    /// Receives a state into a folder of its own, verified and durable. It is removed when
    /// dropped, and at the next start: only what is adopted stays.
    pub fn receive(&self, reader: &mut dyn io::Read) -> Result<Checkpoint, StreamError> {
        let number = kijabi_base::rng::positive_i64();
        let path = self.dir.join(format!("checkpoint-received-{number}"));
        remove(&path)?;
        let received = Checkpoint { path };
        // Closed at once: whoever adopts it opens it again.
        drop(receive(reader, &received.path)?);
        Ok(received)
    }

    /// Makes a staged, flushed state the current one, atomically.
    pub fn adopt(&self, staged: &State) -> Result<(), StateError> {
        let name = staged.path().file_name().unwrap_or_default().as_encoded_bytes();
        small::save(&self.dir.join(CURRENT), name)
            .map_err(|error| StateError(format!("{}: {error}", self.dir.display())))
    }
}

// === impl Checkpoint ===

impl Checkpoint {
    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it.
    pub fn open(&self) -> Result<State, StateError> {
        State::open(&self.path)
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!(%error, "cannot remove a checkpoint; the next start will");
        }
    }
}

/// Removes every state and checkpoint but the current one.
fn remove_leftovers(vfs: &dyn Vfs, dir: &Path, current: &str) -> io::Result<()> {
    // The process that wrote the pointer may have been killed before it was durable. If the old
    // state were removed first, a power cut could leave the old pointer without its state.
    vfs.sync_dir(dir)?;
    for name in vfs.list(dir)? {
        if name != current && (name.starts_with("state-") || name.starts_with("checkpoint-")) {
            vfs.remove_tree(&dir.join(name))?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), StateError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StateError(format!("{}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use bytes::Bytes;
    use kijabi_machine::state::{StateBatch, StateView as _, Table};

    use super::*;

    fn filled(state: &State, count: u32, value: &[u8]) {
        let mut batch = StateBatch::default();
        for number in 0..count {
            batch.put(Table::Key, number.to_be_bytes().to_vec(), Bytes::copy_from_slice(value));
            batch.put(Table::Meta, number.to_be_bytes().to_vec(), Bytes::from_static(b"m"));
        }
        state.write(&batch).unwrap();
    }

    fn stream_of(state: &State) -> Vec<u8> {
        let mut stream = Vec::new();
        send(state, &mut |bytes| {
            stream.extend_from_slice(&bytes);
            ControlFlow::Continue(())
        })
        .unwrap();
        stream
    }

    #[test]
    fn a_streamed_state_arrives_whole_and_takes_the_current_ones_place() {
        let dir = tempfile::tempdir().unwrap();
        let (_, source) = StateHome::open(&dir.path().join("a")).unwrap();
        filled(&source, 3000, &[7; 300]);
        let stream = stream_of(&source);
        let (home, state) = StateHome::open(&dir.path().join("b")).unwrap();
        filled(&state, 5, b"old");
        let staged = receive(&mut &stream[..], &home.stage().unwrap()).unwrap();
        home.adopt(&staged).unwrap();
        drop((state, staged));
        let (_, state) = StateHome::open(&dir.path().join("b")).unwrap();
        let value = state.get(Table::Key, &2999_u32.to_be_bytes()).unwrap();
        assert_eq!(value.as_deref(), Some(&[7; 300][..]));
        let folders = std::fs::read_dir(dir.path().join("b")).unwrap().count();
        assert_eq!(folders, 2, "CURRENT and the state it names");
    }

    #[test]
    fn an_old_state_is_removed_only_once_the_pointer_to_the_new_one_is_durable() {
        use crate::vfs::sim::{Image, Op, SimVfs, crash_images};

        let dir = Path::new("/snap");
        let old = Image::from([
            (dir.join("OLD"), Vec::new()),
            (dir.join("state-1"), b"old".to_vec()),
            (dir.join("state-2"), b"new".to_vec()),
        ]);
        let written = |image: &Image| -> Vec<Op> {
            image.keys().map(|path| Op::Create(path.clone())).collect()
        };
        // Adopted by a process that was killed before it had synced the folder: the names OLD and
        // NEW stand for what the pointer says.
        let mut ops = written(&old);
        ops.push(Op::SyncDir(dir.to_owned()));
        let settled = ops.len();
        ops.extend([Op::Create(dir.join("NEW")), Op::Remove(dir.join("OLD"))]);
        let mut now = old;
        now.remove(&dir.join("OLD"));
        now.insert(dir.join("NEW"), Vec::new());
        let vfs = SimVfs::from_image(now);
        remove_leftovers(&vfs, dir, "state-2").unwrap();
        assert!(!vfs.image().contains_key(&dir.join("state-1")));
        ops.extend(vfs.ops());
        for cut in settled..=ops.len() {
            crash_images(&ops[..cut], 1, &mut |image| {
                let has = |name| image.contains_key(&dir.join(name));
                assert!(!has("OLD") || has("state-1"), "after {cut}: {:?}", image.keys());
                assert!(!has("NEW") || has("state-2"), "after {cut}: {:?}", image.keys());
            });
        }
    }

    #[test]
    fn the_pointer_names_nothing_outside_of_its_folder() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("snap");
        let (_, state) = StateHome::open(&dir).unwrap();
        drop(state);
        for name in ["../elsewhere", "state-1/../../elsewhere", "/etc", "", "CURRENT"] {
            small::save(&dir.join(CURRENT), name.as_bytes()).unwrap();
            let error = StateHome::open(&dir).err().unwrap().to_string();
            assert!(error.contains("CURRENT names") && error.contains("snap"), "{error}");
            assert!(!parent.path().join("elsewhere").exists());
        }
    }

    #[test]
    fn a_stream_of_a_newer_version_or_with_impossible_lengths_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (_, state) = StateHome::open(dir.path()).unwrap();
        filled(&state, 2, b"v");
        let stream = stream_of(&state);
        let mut newer = stream.clone();
        newer[8] += 1;
        let crc = crc32c::crc32c(&newer[..12]).to_le_bytes();
        newer[12..16].copy_from_slice(&crc);
        let error = stream::verify(&mut &newer[..]).unwrap_err().to_string();
        assert!(error.contains("a version that is not known here"), "{error}");
        for length in [0_u32, 1 << 27, u32::MAX] {
            let mut bomb = stream.clone();
            bomb[16..20].copy_from_slice(&length.to_le_bytes());
            let error = stream::verify(&mut &bomb[..]).unwrap_err().to_string();
            assert!(error.contains("impossible chunk length"), "{error}");
        }
    }

    #[test]
    fn a_half_received_state_does_not_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (home, state) = StateHome::open(dir.path()).unwrap();
        filled(&state, 5, b"old");
        state.flush().unwrap();
        let stream = stream_of(&state);
        let cut = &stream[..stream.len() - 1];
        let error = receive(&mut &cut[..], &home.stage().unwrap()).err().unwrap();
        assert!(error.to_string().contains("ends too early"), "{error}");
        drop(state);
        let (_, state) = StateHome::open(dir.path()).unwrap();
        assert!(state.get(Table::Key, &4_u32.to_be_bytes()).unwrap().is_some());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn any_flipped_bit_or_cut_of_a_stream_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (_, state) = StateHome::open(&dir.path().join("a")).unwrap();
        filled(&state, 2, b"v");
        let stream = stream_of(&state);
        for bit in 0..stream.len() * 8 {
            let mut flipped = stream.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(stream::verify(&mut &flipped[..]).is_err(), "bit {bit}");
        }
        for cut in 0..stream.len() {
            assert!(stream::verify(&mut &stream[..cut]).is_err(), "cut at {cut}");
        }
        stream::verify(&mut &stream[..]).unwrap();
    }
}
