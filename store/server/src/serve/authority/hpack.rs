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

/// The schemes as plain bytes, and as bits of the Huffman code.
const SCHEMES: [(&[u8], &str); 2] = [
    (b"http://", "10011101001010011010111011100011000011000"),
    (b"https://", "1001110100101001101011010001011100011000011000"),
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
    let bytes = &string[start..];
    SCHEMES.iter().find_map(|(plain, code)| {
        if string[0] & HUFFMAN == 0 {
            return bytes.strip_prefix(*plain).map(|rest| encoded(0, rest));
        }
        let bit = |at: usize| bytes.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1);
        if bytes.len() * 8 < code.len()
            || !code.bytes().enumerate().all(|(at, b)| bit(at) == (b == b'1'))
        {
            return None;
        }
        // A prefix code: what follows the scheme's bits is the rest of the string.
        let bits: Vec<bool> = (code.len()..bytes.len() * 8).map(bit).collect();
        let mut rest: Vec<u8> = bits.chunks(8).map(packed).collect();
        // Padding is shorter than a byte: a last byte of ones only is none of the string's.
        if rest.last() == Some(&0xff) {
            rest.pop();
        }
        Some(encoded(HUFFMAN, &rest))
    })
}

/// Up to eight bits as a byte, filled up with ones.
fn packed(bits: &[bool]) -> u8 {
    (0..8).fold(0, |byte, at| byte << 1 | u8::from(bits.get(at).copied().unwrap_or(true)))
}

/// A string with its length in front.
fn encoded(huffman: u8, bytes: &[u8]) -> Vec<u8> {
    let mut string = Vec::with_capacity(bytes.len() + 3);
    let mut left = bytes.len();
    if left < 0x7f {
        string.push(huffman | left as u8);
    } else {
        string.push(huffman | 0x7f);
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

    /// Huffman codes of the characters used here (RFC 7541, appendix B).
    fn huffman(text: &str) -> Vec<u8> {
        let code = |c: char| match c {
            'h' => "100111",
            't' => "01001",
            'p' => "101011",
            's' => "01000",
            ':' => "1011100",
            '/' => "011000",
            '.' => "010111",
            '0' => "00000",
            '1' => "00001",
            '2' => "00010",
            '3' => "011001",
            '7' => "011101",
            '9' => "011111",
            other => panic!("no code for {other}"),
        };
        let bits: String = text.chars().map(code).collect();
        let bits: Vec<bool> = bits.bytes().map(|b| b == b'1').collect();
        let bytes: Vec<u8> = bits.chunks(8).map(packed).collect();
        encoded(HUFFMAN, &bytes)
    }

    #[test]
    fn the_scheme_goes_and_the_rest_stays_in_both_codings() {
        for host in ["127.0.0.1:2379", "1", "11", "111", "1111", "1111111", "9:9"] {
            for scheme in ["http://", "https://"] {
                let url = format!("{scheme}{host}");
                assert_eq!(shorter(&huffman(&url)), Some(huffman(host)), "{url}");
                assert_eq!(shorter(&encoded(0, url.as_bytes())), Some(encoded(0, host.as_bytes())));
            }
            assert_eq!(shorter(&huffman(host)), None);
            assert_eq!(shorter(&encoded(0, host.as_bytes())), None);
        }
    }

    #[test]
    fn the_authority_is_found_behind_padding_priority_and_other_fields() {
        let long = vec![b'x'; 300];
        let fields =
            [&[0x83, 0x3f, 0x01, 0x40][..], &encoded(0, b"name"), &encoded(0, &long)].concat();
        let block = |value: &str| [&fields[..], &[0x41], &huffman(value), &[0x84]].concat();
        let (url, host) = (block("http://127.0.0.1:2379"), block("127.0.0.1:2379"));
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
