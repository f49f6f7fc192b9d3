//! A file system in memory that records what is done to it, and the images a power cut may leave.
//!
//! Owns: the recording and the enumeration. Must not know: what is in the files. A newcomer's
//! trap: an image is what a disk may hold after the cut, so an unsynced write may be there, not be
//! there, or be there in part, whatever happened to the writes around it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Vfs, VfsFile};

/// The content of a disk.
pub(crate) type Image = BTreeMap<PathBuf, Vec<u8>>;

/// One recorded call.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Create(PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    Size(PathBuf, u64),
    Sync(PathBuf),
    Remove(PathBuf),
    SyncDir(PathBuf),
}

#[derive(Default)]
struct Disk {
    files: Image,
    ops: Vec<Op>,
    /// Calls left before every write and sync fails.
    fail_after: Option<usize>,
}

/// The file system. Cloning shares.
#[derive(Clone, Default)]
pub(crate) struct SimVfs(Arc<Mutex<Disk>>);

struct SimFile {
    disk: Arc<Mutex<Disk>>,
    path: PathBuf,
}

// === impl SimVfs ===

impl SimVfs {
    pub(crate) fn from_image(image: Image) -> Self {
        Self(Arc::new(Mutex::new(Disk { files: image, ..Disk::default() })))
    }

    pub(crate) fn image(&self) -> Image {
        self.0.lock().files.clone()
    }

    pub(crate) fn ops(&self) -> Vec<Op> {
        self.0.lock().ops.clone()
    }

    pub(crate) fn op_count(&self) -> usize {
        self.0.lock().ops.len()
    }

    pub(crate) fn fail_after(&self, calls: usize) {
        self.0.lock().fail_after = Some(calls);
    }
}

impl Disk {
    fn record(&mut self, op: Op) -> io::Result<()> {
        match &mut self.fail_after {
            Some(0) => return Err(io::Error::other("input/output error")),
            Some(left) => *left -= 1,
            None => {}
        }
        apply(&mut self.files, &op);
        self.ops.push(op);
        Ok(())
    }
}

fn apply(files: &mut Image, op: &Op) {
    match op {
        Op::Create(path) => {
            files.entry(path.clone()).or_default();
        }
        Op::Write(path, offset, bytes) => {
            let file = files.entry(path.clone()).or_default();
            let end = *offset as usize + bytes.len();
            file.resize(file.len().max(end), 0);
            file[*offset as usize..end].copy_from_slice(bytes);
        }
        Op::Size(path, size) => files.entry(path.clone()).or_default().resize(*size as usize, 0),
        Op::Remove(path) => {
            files.remove(path);
        }
        Op::Sync(_) | Op::SyncDir(_) => {}
    }
}

impl Vfs for SimVfs {
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn VfsFile>> {
        let mut disk = self.0.lock();
        if !disk.files.contains_key(path) {
            if !create {
                return Err(io::ErrorKind::NotFound.into());
            }
            disk.record(Op::Create(path.to_owned()))?;
        }
        Ok(Box::new(SimFile { disk: Arc::clone(&self.0), path: path.to_owned() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.0.lock();
        let names = disk.files.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect())
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.lock().record(Op::Remove(path.to_owned()))
    }

    fn remove_tree(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        let within: Vec<_> =
            disk.files.keys().filter(|path| path.starts_with(dir)).cloned().collect();
        within.into_iter().try_for_each(|path| disk.record(Op::Remove(path)))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.lock().record(Op::SyncDir(dir.to_owned()))
    }
}

impl VfsFile for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.lock().record(Op::Write(self.path.clone(), offset, bytes.to_vec()))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let disk = self.disk.lock();
        let file = disk.files.get(&self.path).ok_or(io::ErrorKind::NotFound)?;
        let from = offset as usize;
        let bytes = file.get(from..from + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files.get(&self.path).ok_or(io::ErrorKind::NotFound)?.len() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.disk.lock().record(Op::Size(self.path.clone(), size))
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        let size = size.max(self.size()?);
        self.disk.lock().record(Op::Size(self.path.clone(), size))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.lock().record(Op::Sync(self.path.clone()))
    }
}

/// The images that a power cut right after `ops` may leave. Each is visited once; `seed` picks
/// which of several unsynced operations go together where there are too many to try all.
pub(crate) fn crash_images(ops: &[Op], seed: u64, visit: &mut dyn FnMut(Image)) {
    let (durable, loose) = split(ops);
    let image_of = |kept: &[&Op]| {
        let mut image = durable.clone();
        for op in kept {
            apply(&mut image, op);
        }
        image
    };
    visit(image_of(&[]));
    if loose.is_empty() {
        return;
    }
    // A file whose name is not durable may not be there, whatever was synced into it.
    let mut nameless = durable.clone();
    for op in &loose {
        if let Op::Create(path) = op {
            nameless.remove(path);
        }
    }
    visit(nameless);
    visit(image_of(&loose));
    for at in 0..loose.len() {
        visit(image_of(&[loose[at]]));
        let others: Vec<_> =
            loose.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, op)| *op).collect();
        visit(image_of(&others));
    }
    let last_write = loose.iter().rposition(|op| matches!(op, Op::Write(..)));
    if let Some(last) = last_write
        && let Op::Write(path, offset, bytes) = loose[last]
    {
        for cut in (0..bytes.len()).step_by(512).skip(1) {
            let head = Op::Write(path.clone(), *offset, bytes[..cut].to_vec());
            let tail = Op::Write(path.clone(), *offset + cut as u64, bytes[cut..].to_vec());
            for part in [head, tail] {
                let mut kept = loose.clone();
                kept[last] = &part;
                visit(image_of(&kept));
            }
        }
        // The file has its new length, but none of the data.
        let zeros = Op::Write(path.clone(), *offset, vec![0; bytes.len()]);
        let mut kept = loose.clone();
        kept[last] = &zeros;
        visit(image_of(&kept));
    }
    for round in 0..2_u64 {
        let bits =
            (seed ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd134_2543_de82_ef95);
        let kept: Vec<_> = loose
            .iter()
            .enumerate()
            .filter(|(i, _)| bits >> (i % 64) & 1 == 1)
            .map(|(_, op)| *op)
            .collect();
        visit(image_of(&kept));
    }
}

/// What is durable for sure, and the operations that may or may not have reached the disk.
fn split(ops: &[Op]) -> (Image, Vec<&Op>) {
    let mut durable = Image::new();
    let mut loose: Vec<&Op> = Vec::new();
    for op in ops {
        match op {
            Op::Sync(synced) => {
                // A synced file's data is durable; its name becomes so with the folder.
                let (now, rest): (Vec<&Op>, Vec<&Op>) = loose.into_iter().partition(
                    |op| matches!(op, Op::Write(path, ..) | Op::Size(path, _) if path == synced),
                );
                loose = rest;
                for op in now {
                    apply(&mut durable, op);
                }
            }
            Op::SyncDir(dir) => {
                let (now, rest): (Vec<&Op>, Vec<&Op>) = loose.into_iter().partition(
                    |op| matches!(op, Op::Create(path) | Op::Remove(path) if path.parent() == Some(dir)),
                );
                loose = rest;
                for op in now {
                    apply(&mut durable, op);
                }
            }
            op => loose.push(op),
        }
    }
    (durable, loose)
}
