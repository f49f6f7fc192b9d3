//! Cutting the scheme out of `:authority` in an encoded request head (RFC 7541).
//!
//! Owns: just enough of HPACK to find one literal value. Must not know: the tables of the
//! connection. A newcomer's trap: nothing but that literal may change, because client and server
//! both count on the same table; a shorter entry keeps its place, it only takes less room.

/// The index of `:authority` in the static table.
const AUTHORITY: usize = 1;
const FLAG_PADDED: u8 = 0x08;
const FLAG_PRIORITY: u8 = 0x20;
const HUFFMAN: u8 = 0x80;

const SCHEMES: [&[u8]; 2] = [b"http://", b"https://"];

/// The Huffman code (RFC 7541, appendix B) as far as host names need it: bits, the first code of
/// that many bits, and the characters in the order of their codes.
const CODE: [(usize, usize, &[u8]); 4] = [
    (5, 0b0_0000, b"012aceiost"),
    (6, 0b01_0100, b" %-./3456789=A_bdfghlmnpru"),
    (7, 0b101_1100, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, 0b1111_1000, b"&*,;XZ"),
];

/// The payload of a HEADERS frame without the authority's scheme; `None` if there is none.
pub(super) fn without_scheme(flags: u8, payload: &[u8]) -> Option<Vec<u8>> {
    let mut at = 0;
    let mut end = payload.len();
    if flags & FLAG_PADDED != 0 {
        end = end.checked_sub(usize::from(*payload.first()?))?;
        at += 1;
    }
    if flags & FLAG_PRIORITY != 0 {
        at += 5;
    }
    let (from, to) = authority(payload.get(..end)?, at)?;
    let value = shorter(&payload[from..to])?;
    Some([&payload[..from], &value, &payload[to..]].concat())
}

/// Where the literal value of `:authority` stands, with its length.
fn authority(block: &[u8], mut at: usize) -> Option<(usize, usize)> {
    while at < block.len() {
        let first = block[at];
        if first & 0x80 != 0 {
            // A field both sides know.
            (_, at) = integer(block, at, 7)?;
            continue;
        }
        if first & 0xe0 == 0x20 {
            // A new size of the table.
            (_, at) = integer(block, at, 5)?;
            continue;
        }
        let (index, next) = integer(block, at, if first & 0x40 != 0 { 6 } else { 4 })?;
        let value = if index == 0 { string_end(block, next)? } else { next };
        at = string_end(block, value)?;
        if index == AUTHORITY {
            return Some((value, at));
        }
    }
    None
}

/// Reads a number whose first byte has `bits` bits of it; returns where it ends, too.
fn integer(block: &[u8], at: usize, bits: u32) -> Option<(usize, usize)> {
    let mask = (1_usize << bits) - 1;
    let mut number = usize::from(*block.get(at)?) & mask;
    if number < mask {
        return Some((number, at + 1));
    }
    // Three further bytes are more than any head that fits a frame needs.
    for (place, byte) in block.get(at + 1..)?.iter().take(3).enumerate() {
        number += usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((number, at + 2 + place));
        }
    }
    None
}

/// Where the string that begins at `at` ends.
fn string_end(block: &[u8], at: usize) -> Option<usize> {
    let (length, start) = integer(block, at, 7)?;
    start.checked_add(length).filter(|end| *end <= block.len())
}

/// An encoded string without its scheme; `None` if it has none.
fn shorter(string: &[u8]) -> Option<Vec<u8>> {
    let (_, start) = integer(string, 0, 7)?;
    let mut bytes = string[start..].to_vec();
    if string[0] & HUFFMAN != 0 {
        bytes = decoded(&bytes)?;
    }
    SCHEMES.iter().find_map(|scheme| bytes.strip_prefix(*scheme)).map(encoded)
}

/// Decodes a Huffman string; `None` if it holds what no host name does.
fn decoded(bytes: &[u8]) -> Option<Vec<u8>> {
    let bits = bytes.len() * 8;
    let code = |at: usize, length: usize| {
        (at..at + length)
            .fold(0, |code, at| code << 1 | usize::from(bytes[at / 8] >> (7 - at % 8) & 1))
    };
    let (mut text, mut at) = (Vec::new(), 0);
    'next: while at < bits {
        for (length, first, characters) in CODE {
            if at + length > bits {
                break;
            }
            let place = code(at, length).checked_sub(first);
            if let Some(character) = place.and_then(|place| characters.get(place)) {
                text.push(*character);
                at += length;
                continue 'next;
            }
        }
        // What is left must be the padding: fewer than eight bits, all ones.
        let left = bits - at;
        return (left < 8 && code(at, left) == (1 << left) - 1).then_some(text);
    }
    Some(text)
}

/// A plain string with its length in front.
fn encoded(bytes: &[u8]) -> Vec<u8> {
    let mut string = Vec::with_capacity(bytes.len() + 3);
    let mut left = bytes.len();
    if left < 0x7f {
        string.push(left as u8);
    } else {
        string.push(0x7f);
        left -= 0x7f;
        while left >= 0x80 {
            string.push(0x80 | (left & 0x7f) as u8);
            left >>= 7;
        }
        string.push(left as u8);
    }
    string.extend_from_slice(bytes);
    string
}

#[cfg(test)]
mod tests {
    use super::*;

    fn huffman(text: &str) -> Vec<u8> {
        let mut bits = String::new();
        for byte in text.bytes() {
            let found = CODE.iter().find_map(|(length, first, characters)| {
                let place = characters.iter().position(|character| *character == byte)?;
                Some(format!("{:0length$b}", first + place))
            });
            bits.push_str(&found.unwrap());
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        let bytes = bits.as_bytes().chunks(8);
        let bytes = bytes.map(|b| u8::from_str_radix(std::str::from_utf8(b).unwrap(), 2).unwrap());
        let mut string = encoded(&bytes.collect::<Vec<u8>>());
        string[0] |= HUFFMAN;
        string
    }

    #[test]
    fn the_scheme_goes_and_the_rest_stays_in_both_codings() {
        // The example of RFC 7541, C.4.1.
        let example = b"\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert_eq!(huffman("www.example.com"), example);
        for host in ["127.0.0.1:2379", "1", "11", "111", "1111", "9:9", "etcd-0.etcd:2379", "Z"] {
            for scheme in ["http://", "https://"] {
                let url = format!("{scheme}{host}");
                let expected = Some(encoded(host.as_bytes()));
                assert_eq!(shorter(&huffman(&url)), expected, "{url}");
                assert_eq!(shorter(&encoded(url.as_bytes())), expected);
            }
            assert_eq!(shorter(&huffman(host)), None);
            assert_eq!(shorter(&encoded(host.as_bytes())), None);
        }
        // Padding of a whole byte is an error, and none of ours to mend.
        assert_eq!(decoded(b"\xff"), None);
    }

    #[test]
    fn the_authority_is_found_behind_padding_priority_and_other_fields() {
        let long = vec![b'x'; 300];
        let fields = [&[0x83, 0x3f, 0x01, 0x40][..], &encoded(b"name"), &encoded(&long)].concat();
        let block = |value: &[u8]| [&fields[..], &[0x41], value, &[0x84]].concat();
        let (url, host) = (block(&huffman("http://h:1")), block(&encoded(b"h:1")));
        assert_eq!(without_scheme(0, &url), Some(host.clone()));
        let padded = |block: &[u8]| [&[2, 0, 0, 0, 0, 9][..], block, &[0, 0]].concat();
        let flags = FLAG_PADDED | FLAG_PRIORITY;
        assert_eq!(without_scheme(flags, &padded(&url)), Some(padded(&host)));
        assert_eq!(without_scheme(0, &host), None);
    }

    #[test]
    fn damaged_heads_are_left_to_the_library() {
        let damaged: [&[u8]; 7] = [
            b"",
            b"\x41",
            b"\x41\xff",
            b"\x41\x09http",
            b"\x7f\xff\xff\xff\xff",
            b"\x00",
            b"\x40\x7f",
        ];
        for payload in damaged {
            for flags in [0, FLAG_PADDED, FLAG_PRIORITY, FLAG_PADDED | FLAG_PRIORITY] {
                assert_eq!(without_scheme(flags, payload), None, "{payload:?}");
            }
        }
    }
}
