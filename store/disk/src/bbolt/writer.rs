//! Writing a bbolt file in one go, from sorted pairs.
//!
//! Owns: the building of trees from left to right. Must not know: where the pairs come from. A
//! newcomer's trap: only one page a level is in memory, so a database of any size takes as much
//! memory as its largest value; the price is that buckets and keys come in order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};

use super::BboltError;
use super::page::{
    BRANCH, BUCKET_BYTES, ELEMENT_BYTES, FREELIST, HEADER_BYTES, Header, IS_BUCKET, LEAF, META,
    Meta,
};

/// The page size of the machines that etcd runs on.
const PAGE_BYTES: usize = 4096;
/// Pages 0 and 1 are the meta pages.
const FIRST_PAGE: u64 = 2;
/// bbolt's own bounds.
const KEY_BYTES_MAX: usize = 32_768;
const VALUE_BYTES_MAX: usize = (1 << 31) - 2;

/// A bbolt file being written.
#[derive(Debug)]
pub struct Writer {
    out: BufWriter<File>,
    next: u64,
    /// The root page of each finished bucket.
    buckets: BTreeMap<Vec<u8>, u64>,
    open: Option<OpenBucket>,
}

#[derive(Debug)]
struct OpenBucket {
    name: Vec<u8>,
    tree: Tree,
}

/// A tree whose right edge is still being written.
#[derive(Debug, Default)]
struct Tree {
    /// The page being filled on each level, leaves first.
    levels: Vec<Filling>,
    last: Vec<u8>,
}

/// A page being filled.
#[derive(Debug, Default)]
struct Filling {
    /// Flags (of a leaf's element) or the child, key length, value length.
    heads: Vec<(u64, usize, usize)>,
    /// Keys and values.
    pairs: Vec<u8>,
}

// === impl Writer ===

impl Writer {
    /// Begins a database in an empty file.
    pub fn new(file: File) -> Result<Self, BboltError> {
        let mut out = BufWriter::with_capacity(64 * PAGE_BYTES, file);
        out.write_all(&[0; 2 * PAGE_BYTES])?;
        Ok(Self { out, next: FIRST_PAGE, buckets: BTreeMap::new(), open: None })
    }

    /// Begins a bucket and ends the one before it. Buckets may come in any order.
    pub fn bucket(&mut self, name: &str) -> Result<(), BboltError> {
        self.end_bucket()?;
        if self.buckets.contains_key(name.as_bytes()) {
            return Err(BboltError::Unwritable("a bucket that is already there"));
        }
        self.open = Some(OpenBucket { name: name.into(), tree: Tree::default() });
        Ok(())
    }

    /// Adds a pair to the bucket begun last. Keys come in order.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), BboltError> {
        let open = self.open.as_mut().ok_or(BboltError::Unwritable("a pair without a bucket"))?;
        open.tree.put(&mut self.out, &mut self.next, 0, key, value)
    }

    /// Writes what is missing and makes the file durable. Returns it and its length.
    pub fn finish(mut self) -> Result<(File, u64), BboltError> {
        self.end_bucket()?;
        let mut tree = Tree::default();
        for (name, root) in &self.buckets {
            let mut head = root.to_le_bytes().to_vec();
            head.resize(BUCKET_BYTES, 0);
            tree.put(&mut self.out, &mut self.next, IS_BUCKET, name, &head)?;
        }
        let root = tree.finish(&mut self.out, &mut self.next)?;
        let freelist = self.next;
        let header = Header { id: freelist, flags: FREELIST, count: 0, overflow: 0 };
        let mut page = Vec::with_capacity(PAGE_BYTES);
        header.write(&mut page);
        page.resize(PAGE_BYTES, 0);
        self.out.write_all(&page)?;
        let end = freelist + 1;
        self.out.seek(SeekFrom::Start(0))?;
        for id in 0..FIRST_PAGE {
            page.clear();
            Header { id, flags: META, count: 0, overflow: 0 }.write(&mut page);
            Meta { page_bytes: PAGE_BYTES as u32, root, freelist, end, txid: id }.write(&mut page);
            page.resize(PAGE_BYTES, 0);
            self.out.write_all(&page)?;
        }
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok((file, end * PAGE_BYTES as u64))
    }

    fn end_bucket(&mut self) -> Result<(), BboltError> {
        if let Some(OpenBucket { name, tree }) = self.open.take() {
            let root = tree.finish(&mut self.out, &mut self.next)?;
            self.buckets.insert(name, root);
        }
        Ok(())
    }
}

// === impl Tree ===

impl Tree {
    fn put(
        &mut self,
        out: &mut BufWriter<File>,
        next: &mut u64,
        flags: u32,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), BboltError> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(BboltError::Unwritable("a key that is empty or too long"));
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(BboltError::Unwritable("a value that is too long"));
        }
        if self.last.as_slice() >= key {
            return Err(BboltError::Unwritable("keys that are not in order"));
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        self.add(out, next, 0, u64::from(flags), key, value)
    }

    /// Adds an element to the page of a level, which is written first if it has no room.
    fn add(
        &mut self,
        out: &mut BufWriter<File>,
        next: &mut u64,
        level: usize,
        head: u64,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), BboltError> {
        if self.levels.len() == level {
            self.levels.push(Filling::default());
        }
        let filling = &mut self.levels[level];
        let wanted = ELEMENT_BYTES + key.len() + value.len();
        // A level of branches with one child each would be as long as the one below, without end.
        let least = if level == 0 { 1 } else { 2 };
        if filling.heads.len() >= least && filling.bytes() + wanted > PAGE_BYTES {
            let (first, page) = filling.write(out, next, level == 0)?;
            self.add(out, next, level + 1, page, &first, &[])?;
        }
        let filling = &mut self.levels[level];
        filling.heads.push((head, key.len(), value.len()));
        filling.pairs.extend_from_slice(key);
        filling.pairs.extend_from_slice(value);
        Ok(())
    }

    /// Writes the pages that are left and returns the root.
    fn finish(mut self, out: &mut BufWriter<File>, next: &mut u64) -> Result<u64, BboltError> {
        if self.levels.is_empty() {
            self.levels.push(Filling::default());
        }
        let mut level = 0;
        loop {
            let (first, page) = self.levels[level].write(out, next, level == 0)?;
            level += 1;
            if level == self.levels.len() {
                return Ok(page);
            }
            self.add(out, next, level, page, &first, &[])?;
        }
    }
}

// === impl Filling ===

impl Filling {
    fn bytes(&self) -> usize {
        HEADER_BYTES + self.heads.len() * ELEMENT_BYTES + self.pairs.len()
    }

    /// Writes the page and empties it. Returns its first key and its number.
    fn write(
        &mut self,
        out: &mut BufWriter<File>,
        next: &mut u64,
        is_leaf: bool,
    ) -> Result<(Vec<u8>, u64), BboltError> {
        let pages = self.bytes().div_ceil(PAGE_BYTES);
        let flags = if is_leaf { LEAF } else { BRANCH };
        // A page of this size holds far fewer elements than the count can tell.
        let (count, overflow) = (self.heads.len() as u16, (pages - 1) as u32);
        let mut page = Vec::with_capacity(HEADER_BYTES + self.heads.len() * ELEMENT_BYTES);
        Header { id: *next, flags, count, overflow }.write(&mut page);
        let mut at = 0;
        for (index, (head, key_bytes, value_bytes)) in self.heads.iter().enumerate() {
            let position = (self.heads.len() - index) * ELEMENT_BYTES + at;
            let (position, key_len) = (position as u32, *key_bytes as u32);
            if is_leaf {
                let numbers = [*head as u32, position, key_len, *value_bytes as u32];
                page.extend(numbers.into_iter().flat_map(u32::to_le_bytes));
            } else {
                page.extend([position, key_len].into_iter().flat_map(u32::to_le_bytes));
                page.extend_from_slice(&head.to_le_bytes());
            }
            at += key_bytes + value_bytes;
        }
        out.write_all(&page)?;
        out.write_all(&self.pairs)?;
        let padding = pages * PAGE_BYTES - self.bytes();
        out.write_all(&[0; PAGE_BYTES][..padding])?;
        let first = self.heads.first().map_or(0, |head| head.1);
        let written = (self.pairs[..first].to_vec(), *next);
        *next += pages as u64;
        self.heads.clear();
        self.pairs.clear();
        // A large value shall not stay in memory for the rest of the bucket.
        self.pairs.shrink_to(PAGE_BYTES);
        Ok(written)
    }
}
