//! The bytes of a page: header, elements, meta.
//!
//! Owns: offsets and the meta's checksum. Must not know: trees. A newcomer's trap: an element's
//! position counts from the element itself, not from the page.

/// Bytes of a page's header.
pub(super) const HEADER_BYTES: usize = 16;
/// Bytes of an element's head, in a leaf and in a branch.
pub(super) const ELEMENT_BYTES: usize = 16;
/// Bytes of a bucket's head.
pub(super) const BUCKET_BYTES: usize = 16;

pub(super) const BRANCH: u16 = 0x01;
pub(super) const LEAF: u16 = 0x02;
pub(super) const META: u16 = 0x04;
pub(super) const FREELIST: u16 = 0x10;
/// The flag of an element that is a bucket.
pub(super) const IS_BUCKET: u32 = 0x01;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Bytes of a meta that its checksum covers.
const META_SUMMED_BYTES: usize = 56;
/// Bytes of a meta.
pub(super) const META_BYTES: usize = META_SUMMED_BYTES + 8;

/// A page's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u64,
    pub(super) flags: u16,
    pub(super) count: u16,
    /// Pages that follow and belong to it.
    pub(super) overflow: u32,
}

impl Header {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            id: u64_at(bytes, 0)?,
            flags: u16_at(bytes, 8)?,
            count: u16_at(bytes, 10)?,
            overflow: u32_at(bytes, 12)?,
        })
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.overflow.to_le_bytes());
    }
}

/// What a meta page says of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) page_bytes: u32,
    /// The page of the bucket of buckets.
    pub(super) root: u64,
    pub(super) freelist: u64,
    /// The first page number that was never used.
    pub(super) end: u64,
    pub(super) txid: u64,
}

/// Why a meta was not taken.
pub(super) type MetaFault = &'static str;

impl Meta {
    /// Reads the meta behind a page's header.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, MetaFault> {
        let short = || "it is too short";
        let summed = bytes.get(..META_SUMMED_BYTES).ok_or_else(short)?;
        let sum = u64_at(bytes, META_SUMMED_BYTES).ok_or_else(short)?;
        let number = |at| u32_at(bytes, at).ok_or_else(short);
        let long = |at| u64_at(bytes, at).ok_or_else(short);
        if number(0)? != MAGIC {
            return Err("wrong magic number");
        }
        if number(4)? != VERSION {
            return Err("a version of the format that is not known here");
        }
        if fnv1a(summed) != sum {
            return Err("wrong checksum of a meta page");
        }
        let meta = Self {
            page_bytes: number(8)?,
            root: long(16)?,
            freelist: long(32)?,
            end: long(40)?,
            txid: long(48)?,
        };
        if !meta.page_bytes.is_power_of_two()
            || !(PAGE_BYTES_LEAST..=PAGE_BYTES_MOST).contains(&meta.page_bytes)
        {
            return Err("impossible page size");
        }
        Ok(meta)
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        let start = out.len();
        for number in [MAGIC, VERSION, self.page_bytes, 0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        // The root bucket's sequence is not used.
        for number in [self.root, 0, self.freelist, self.end, self.txid] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let sum = fnv1a(&out[start..]);
        out.extend_from_slice(&sum.to_le_bytes());
    }
}

/// Page sizes that bbolt itself looks for.
pub(super) const PAGE_BYTES_LEAST: u32 = 1 << 10;
pub(super) const PAGE_BYTES_MOST: u32 = 1 << 16;

/// FNV-1a of 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_le_bytes(*bytes))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*bytes))
}
