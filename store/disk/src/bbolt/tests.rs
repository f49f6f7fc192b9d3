//! Round trips, and files that were damaged or made to harm.

use std::fs::File;
use std::io::Write as _;
use std::ops::ControlFlow;

use super::page::{BRANCH, Header, LEAF, Meta};
use super::*;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn written(buckets: &[(&str, Pairs)]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let mut writer = Writer::new(File::create_new(&path).unwrap()).unwrap();
    for (name, pairs) in buckets {
        writer.bucket(name).unwrap();
        for (key, value) in pairs {
            writer.put(key, value).unwrap();
        }
    }
    let (_, bytes) = writer.finish().unwrap();
    let file = std::fs::read(&path).unwrap();
    assert_eq!(file.len() as u64, bytes);
    file
}

/// Everything that can be read from a file, or the first fault.
fn read(bytes: &[u8]) -> Result<Vec<(Vec<u8>, Pairs)>, BboltError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let reader = Reader::open(file, bytes.len() as u64)?;
    let mut all = Vec::new();
    for (name, bucket) in reader.buckets(16)? {
        let mut pairs = Vec::new();
        reader.scan(&bucket, &mut |key, value| {
            pairs.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })?;
        all.push((name, pairs));
    }
    Ok(all)
}

fn pairs(count: u32, value_bytes: usize) -> Pairs {
    (0..count).map(|n| (format!("key{n:08}").into_bytes(), vec![n as u8; value_bytes])).collect()
}

#[test]
fn buckets_of_every_shape_read_back() {
    let mixed: Pairs = (0..200_u32)
        .map(|n| (n.to_be_bytes().to_vec(), vec![7; [0, 1, 4000, 5000, 100_000][n as usize % 5]]))
        .collect();
    let mut buckets = vec![
        ("lease", Pairs::new()),
        ("key", pairs(50_000, 20)),
        ("auth", pairs(1, 3)),
        ("meta", mixed),
    ];
    let bytes = written(&buckets);
    buckets.sort_by_key(|(name, _)| *name);
    let all = read(&bytes).unwrap();
    assert_eq!(all.len(), buckets.len());
    for ((name, pairs), (expected_name, expected)) in all.into_iter().zip(buckets) {
        assert_eq!(name, expected_name.as_bytes());
        assert!(pairs == expected, "{expected_name}: {} pairs", pairs.len());
    }
    assert_eq!(read(&written(&[])).unwrap().len(), 0);
}

#[test]
fn long_keys_make_deep_trees() {
    let pairs: Pairs =
        (0..200_u32).map(|n| ([&n.to_be_bytes()[..], &[1; 3000]].concat(), vec![2; 10])).collect();
    assert!(read(&written(&[("key", pairs.clone())])).unwrap()[0].1 == pairs);
}

#[test]
fn pairs_out_of_order_are_not_written() {
    let mut writer = Writer::new(tempfile::tempfile().unwrap()).unwrap();
    assert!(writer.put(b"a", b"").is_err(), "no bucket");
    writer.bucket("key").unwrap();
    writer.put(b"b", b"1").unwrap();
    for key in [&b"b"[..], b"a", b""] {
        assert!(writer.put(key, b"2").is_err());
    }
    assert!(writer.bucket("key").is_err());
}

#[test]
fn a_second_meta_page_stands_in_for_the_first() {
    let mut bytes = written(&[("key", pairs(3, 3))]);
    bytes[20] ^= 1;
    assert_eq!(read(&bytes).unwrap()[0].1, pairs(3, 3));
    bytes[4096 + 20] ^= 1;
    let error = read(&bytes).unwrap_err().to_string();
    assert!(error.starts_with("not a bbolt database: "), "{error}");
}

#[test]
fn a_cut_file_is_refused_at_every_length() {
    let bytes = written(&[("key", pairs(300, 20))]);
    for cut in (0..bytes.len()).step_by(509) {
        let error = read(&bytes[..cut]).unwrap_err().to_string();
        assert!(error.starts_with("not a bbolt database: "), "{cut}: {error}");
    }
}

#[test]
fn no_flipped_bit_harms_the_reader() {
    let bytes = written(&[("key", pairs(400, 2)), ("meta", pairs(2, 2))]);
    let mut noticed = 0;
    for bit in (0..bytes.len() * 8).step_by(41) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        noticed += u32::from(read(&flipped).is_err());
    }
    assert!(noticed > 30, "{noticed}");
}

/// A file of hand-made pages from number 2 on, whose bucket of buckets is page 2.
fn made(end: u64, pages: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in 0..2 {
        let start = bytes.len();
        Header { id, flags: super::page::META, count: 0, overflow: 0 }.write(&mut bytes);
        Meta { page_bytes: 4096, root: 2, freelist: u64::MAX, end, txid: id }.write(&mut bytes);
        bytes.resize(start + 4096, 0);
    }
    for page in pages {
        let start = bytes.len();
        bytes.extend_from_slice(page);
        bytes.resize(start + 4096, 0);
    }
    bytes
}

fn page(id: u64, flags: u16, count: u16, overflow: u32, elements: &[[u32; 4]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Header { id, flags, count, overflow }.write(&mut bytes);
    bytes.extend(elements.iter().flatten().flat_map(|number| number.to_le_bytes()));
    bytes
}

#[test]
fn pages_made_to_harm_are_refused_with_their_number() {
    let leaf = |elements: &[[u32; 4]]| page(2, LEAF, elements.len() as u16, 0, elements);
    let twice: Vec<[u32; 4]> = vec![[64, 0, 3, 0], [48, 0, 3, 0]];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "page 2 is corrupt: the tree is too deep",
            made(3, &[page(2, BRANCH, 1, 0, &[[16, 0, 2, 0]])]),
        ),
        ("page 2 is corrupt: it is empty", made(3, &[page(2, BRANCH, 0, 0, &[])])),
        (
            "page 3 is corrupt: its keys are not in order",
            made(
                4,
                &[page(2, BRANCH, 2, 0, &twice), {
                    let mut leaf = page(3, LEAF, 1, 0, &[[1, 16, 1, 16]]);
                    leaf.extend_from_slice(&[b'k'; 17]);
                    leaf[33..41].copy_from_slice(&9_u64.to_le_bytes());
                    leaf
                }],
            ),
        ),
        (
            "page 2 is corrupt: an element reaches behind its end",
            made(3, &[leaf(&[[1, u32::MAX, u32::MAX, u32::MAX]])]),
        ),
        (
            "page 2 is corrupt: a plain value among the buckets",
            made(3, &[page(2, LEAF, u16::MAX, 0, &[])]),
        ),
        (
            "page 2 is corrupt: it goes on behind the last page",
            made(3, &[page(2, LEAF, 1, u32::MAX, &[])]),
        ),
        ("page 2 is corrupt: it says it is another page", made(3, &[page(7, LEAF, 1, 0, &[])])),
        ("page 2 is corrupt: neither a branch nor a leaf", made(3, &[page(2, 3, 1, 0, &[])])),
        (
            "page 9 is corrupt: there is no such page",
            made(3, &[page(2, BRANCH, 1, 0, &[[16, 0, 9, 0]])]),
        ),
        ("page 2 is corrupt: a plain value among the buckets", made(3, &[leaf(&[[0, 16, 1, 1]])])),
        ("page 2 is corrupt: the head of a bucket is cut", made(3, &[leaf(&[[1, 16, 1, 15]])])),
        ("not a bbolt database: it is shorter than it says", made(u64::MAX, &[leaf(&[])])),
    ];
    for (expected, bytes) in cases {
        assert_eq!(read(&bytes).unwrap_err().to_string(), expected);
    }
}
