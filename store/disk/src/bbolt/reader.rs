//! Reading a bbolt file that may be damaged or made to harm.
//!
//! Owns: the walk over a bucket's tree. Must not know: who reads. A newcomer's trap: what ends a
//! walk over pages that form a circle is the order of keys: no leaf may be reached twice, because
//! its keys would not be larger than those before, and no chain of branches may be deeper than
//! any real tree.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;

use kijabi_base::limits::{BBOLT_DEPTH_MAX, BBOLT_PAGE_BYTES_MAX};

use super::BboltError;
use super::page::{
    self, BRANCH, BUCKET_BYTES, ELEMENT_BYTES, HEADER_BYTES, Header, IS_BUCKET, LEAF, META_BYTES,
    Meta,
};

/// An open bbolt file.
#[derive(Debug)]
pub struct Reader {
    file: File,
    /// Length of the database in the file.
    bytes: u64,
    meta: Meta,
}

/// A bucket of keys and values.
#[derive(Clone, Debug)]
pub struct Bucket(Root);

#[derive(Clone, Debug)]
enum Root {
    Page(u64),
    /// A small bucket is kept as a page inside the value that names it.
    Inline {
        holder: u64,
        page: Vec<u8>,
    },
}

/// What a walk calls with each key and value.
pub type VisitPair<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// What the walk itself calls, with the number of the page too.
type VisitElement<'a> = dyn FnMut(u64, Element<'_>) -> Result<ControlFlow<()>, BboltError> + 'a;

/// An element of a leaf.
struct Element<'a> {
    flags: u32,
    key: &'a [u8],
    value: &'a [u8],
}

// === impl Reader ===

impl Reader {
    /// Opens the database in the first `bytes` of `file`.
    pub fn open(file: File, bytes: u64) -> Result<Self, BboltError> {
        let at = |offset: u64| -> Result<Result<Meta, &'static str>, io::Error> {
            let mut buffer = [0; HEADER_BYTES + META_BYTES];
            let wanted = buffer.len() as u64;
            if bytes.checked_sub(offset).is_none_or(|left| left < wanted) {
                return Ok(Err("it is too short"));
            }
            file.read_exact_at(&mut buffer, offset)?;
            Ok(Meta::parse(&buffer[HEADER_BYTES..]))
        };
        let first = at(0)?;
        // Where the second meta is depends on the page size, which only the first one tells.
        let sizes = match first {
            Ok(meta) => meta.page_bytes..=meta.page_bytes,
            Err(_) => page::PAGE_BYTES_LEAST..=page::PAGE_BYTES_MOST,
        };
        let mut second = None;
        let mut size = *sizes.start();
        while second.is_none() && size <= *sizes.end() {
            second = at(u64::from(size))?.ok().filter(|meta| meta.page_bytes == size);
            size *= 2;
        }
        let meta = match (first, second) {
            (Ok(first), Some(second)) if second.txid > first.txid => second,
            (Ok(first), _) => first,
            (Err(_), Some(second)) => second,
            (Err(why), None) => return Err(BboltError::NotBbolt(why)),
        };
        if meta.end > bytes / u64::from(meta.page_bytes) {
            return Err(BboltError::NotBbolt("it is shorter than it says"));
        }
        Ok(Self { file, bytes, meta })
    }

    /// Length of the database in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The top-level buckets, sorted by name. There may be `max` at most.
    pub fn buckets(&self, max: usize) -> Result<Vec<(Vec<u8>, Bucket)>, BboltError> {
        let mut buckets = Vec::new();
        self.walk(&Root::Page(self.meta.root), &mut |page, element| {
            if element.flags != IS_BUCKET {
                return Err(corrupt(page, "a plain value among the buckets"));
            }
            if buckets.len() >= max {
                return Err(corrupt(page, "too many buckets"));
            }
            let short = || corrupt(page, "the head of a bucket is cut");
            let root = page::u64_at(element.value, 0).ok_or_else(short)?;
            let rest = element.value.get(BUCKET_BYTES..).ok_or_else(short)?;
            let root = match root {
                0 => Root::Inline { holder: page, page: rest.to_vec() },
                number => Root::Page(number),
            };
            buckets.push((element.key.to_vec(), Bucket(root)));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(buckets)
    }

    /// Visits the bucket's pairs in the order of their keys, until `visit` breaks.
    pub fn scan(&self, bucket: &Bucket, visit: &mut VisitPair<'_>) -> Result<(), BboltError> {
        self.walk(&bucket.0, &mut |page, element| {
            if element.flags != 0 {
                return Err(corrupt(page, "a bucket in a bucket"));
            }
            Ok(visit(element.key, element.value))
        })
    }

    fn walk(&self, root: &Root, visit: &mut VisitElement<'_>) -> Result<(), BboltError> {
        let mut last: Option<Vec<u8>> = None;
        let number = match root {
            Root::Page(number) => *number,
            Root::Inline { holder, page } => {
                let header = Header::parse(page).ok_or_else(|| corrupt(*holder, "it is cut"))?;
                if header.flags != LEAF || header.overflow != 0 {
                    return Err(corrupt(*holder, "a bucket in a value that is no leaf"));
                }
                return leaf(*holder, page, header.count, &mut last, visit).map(|_| ());
            }
        };
        // One list of children for each level, the next one last.
        let mut levels: Vec<Vec<u64>> = vec![vec![number]];
        while let Some(level) = levels.last_mut() {
            let Some(number) = level.pop() else {
                levels.pop();
                continue;
            };
            let (header, bytes) = self.page(number)?;
            let is_root = levels.len() == 1;
            if header.count == 0 && !(is_root && header.flags == LEAF) {
                return Err(corrupt(number, "it is empty"));
            }
            if header.flags == LEAF {
                if leaf(number, &bytes, header.count, &mut last, visit)?.is_break() {
                    return Ok(());
                }
            } else if levels.len() > BBOLT_DEPTH_MAX {
                return Err(corrupt(number, "the tree is too deep"));
            } else {
                levels.push(children(number, &bytes, header.count)?);
            }
        }
        Ok(())
    }

    /// A branch or a leaf with the pages that belong to it.
    fn page(&self, number: u64) -> Result<(Header, Vec<u8>), BboltError> {
        if number < 2 || number >= self.meta.end {
            return Err(corrupt(number, "there is no such page"));
        }
        let size = u64::from(self.meta.page_bytes);
        // The end of all pages is known to lie in the file, so this cannot overflow.
        let offset = number * size;
        let mut first = [0; HEADER_BYTES];
        self.file.read_exact_at(&mut first, offset)?;
        let header = Header::parse(&first).ok_or_else(|| corrupt(number, "it is cut"))?;
        if header.id != number {
            return Err(corrupt(number, "it says it is another page"));
        }
        if header.flags != LEAF && header.flags != BRANCH {
            return Err(corrupt(number, "neither a branch nor a leaf"));
        }
        let pages = u64::from(header.overflow) + 1;
        if pages > self.meta.end - number {
            return Err(corrupt(number, "it goes on behind the last page"));
        }
        let length = pages.saturating_mul(size);
        if length > BBOLT_PAGE_BYTES_MAX {
            return Err(corrupt(number, "it is too large"));
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok((header, bytes))
    }
}

/// Visits a leaf's elements.
fn leaf(
    number: u64,
    bytes: &[u8],
    count: u16,
    last: &mut Option<Vec<u8>>,
    visit: &mut VisitElement<'_>,
) -> Result<ControlFlow<()>, BboltError> {
    let mut previous: Option<&[u8]> = last.as_deref();
    let mut flow = ControlFlow::Continue(());
    for index in 0..usize::from(count) {
        let element = leaf_element(bytes, index)
            .ok_or_else(|| corrupt(number, "an element reaches behind its end"))?;
        if previous.is_some_and(|previous| previous >= element.key) {
            return Err(corrupt(number, "its keys are not in order"));
        }
        previous = Some(element.key);
        flow = visit(number, element)?;
        if flow.is_break() {
            break;
        }
    }
    *last = previous.map(<[u8]>::to_vec);
    Ok(flow)
}

fn leaf_element(bytes: &[u8], index: usize) -> Option<Element<'_>> {
    let head = HEADER_BYTES + index * ELEMENT_BYTES;
    let flags = page::u32_at(bytes, head)?;
    let start = head.checked_add(page::u32_at(bytes, head + 4)? as usize)?;
    let middle = start.checked_add(page::u32_at(bytes, head + 8)? as usize)?;
    let end = middle.checked_add(page::u32_at(bytes, head + 12)? as usize)?;
    Some(Element { flags, key: bytes.get(start..middle)?, value: bytes.get(middle..end)? })
}

/// A branch's children, the first one last.
fn children(number: u64, bytes: &[u8], count: u16) -> Result<Vec<u64>, BboltError> {
    let mut children = Vec::with_capacity(usize::from(count));
    for index in 0..usize::from(count) {
        let at = HEADER_BYTES + index * ELEMENT_BYTES + 8;
        let child = page::u64_at(bytes, at);
        children.push(child.ok_or_else(|| corrupt(number, "an element reaches behind its end"))?);
    }
    children.reverse();
    Ok(children)
}

fn corrupt(page: u64, what: &'static str) -> BboltError {
    BboltError::Corrupt { page, what }
}
