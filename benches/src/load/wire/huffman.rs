//! The Huffman code of HPACK (RFC 7541, appendix B), decoding only.
//!
//! Owns: the code. Must not know: headers. A newcomer's trap: the code is canonical, so the
//! lengths alone define it; codes of one length count up in the order of their symbols.

use std::sync::LazyLock;

/// Bits of the code of each byte.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28,
    28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8,
    15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23,
    23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21,
    23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21,
    26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
const LENGTH_MAX: usize = 30;

/// Of each length: its first code, and its symbols.
struct Code {
    first: [u32; LENGTH_MAX + 1],
    symbols: Vec<Vec<u8>>,
}

static CODE: LazyLock<Code> = LazyLock::new(|| {
    let mut code = Code { first: [0; LENGTH_MAX + 1], symbols: vec![Vec::new(); LENGTH_MAX + 1] };
    for (symbol, length) in (0..=u8::MAX).zip(LENGTHS) {
        code.symbols[usize::from(length)].push(symbol);
    }
    let mut next = 0;
    for length in 1..=LENGTH_MAX {
        next <<= 1;
        code.first[length] = next;
        next += code.symbols[length].len() as u32;
    }
    code
});

/// The text of a code; what is left of the last byte is padding.
pub(super) fn decode(coded: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(coded.len() * 2);
    let (mut bits, mut length) = (0_u32, 0_usize);
    for byte in coded {
        for at in (0..8).rev() {
            bits = (bits << 1) | u32::from(byte >> at & 1);
            length += 1;
            if length > LENGTH_MAX {
                return text;
            }
            let offset = bits.checked_sub(CODE.first[length]).map(|offset| offset as usize);
            let symbol = offset.and_then(|offset| CODE.symbols[length].get(offset));
            if let Some(symbol) = symbol {
                text.push(*symbol);
                (bits, length) = (0, 0);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_specification() {
        // RFC 7541, C.4.1 and C.4.3.
        let coded = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decode(&coded), b"www.example.com");
        let coded = [0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf];
        assert_eq!(decode(&coded), b"custom-value");
        assert_eq!(decode(&[0xff; 8]), b"", "only padding");
    }
}
