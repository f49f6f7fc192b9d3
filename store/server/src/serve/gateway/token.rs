//! The tokens of one JSON value, with their places, as Go's `protojson` sees them.
//!
//! Owns: texts, numbers, lines and columns. Must not know: messages. A newcomer's trap: the value
//! has been through [`super::scan`], so its grammar is right; only what that accepts and `protojson`
//! does not is refused here: text that is not UTF-8, and halves of surrogate pairs.

use std::borrow::Cow;

/// One token; commas and colons are left out.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind<'a> {
    ObjectOpen,
    ObjectClose,
    ArrayOpen,
    ArrayClose,
    Text(Cow<'a, str>),
    Number,
    Bool(bool),
    Null,
    End,
}

/// A token, where it begins, and how it is written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) start: usize,
    pub(super) raw: &'a [u8],
}

/// The tokens of a value.
#[derive(Clone, Debug)]
pub(super) struct Tokens<'a> {
    value: &'a [u8],
    next: usize,
}

// === impl Token ===

impl Token<'_> {
    /// As it is written.
    pub(super) fn raw(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.raw)
    }
}

// === impl Tokens ===

impl<'a> Tokens<'a> {
    pub(super) fn new(value: &'a [u8]) -> Self {
        Self { value, next: 0 }
    }

    /// `line 1:9` of a place.
    pub(super) fn place(&self, at: usize) -> String {
        let before = &self.value[..at];
        let line = before.split(|byte| *byte == b'\n').count();
        let begin = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        // Go counts runes: every byte that does not continue one.
        let column = before[begin..].iter().filter(|byte| **byte & 0xc0 != 0x80).count() + 1;
        format!("line {line}:{column}")
    }

    pub(super) fn peek(&self) -> Result<Token<'a>, String> {
        self.clone().read()
    }

    pub(super) fn read(&mut self) -> Result<Token<'a>, String> {
        let separators = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':');
        let value = self.value;
        let start = value[self.next..].iter().position(|byte| !separators(byte));
        let start = start.map_or(value.len(), |skip| self.next + skip);
        let Some(first) = value.get(start) else {
            self.next = start;
            return Ok(Token { kind: Kind::End, start, raw: &[] });
        };
        let (kind, length) = match first {
            b'{' => (Kind::ObjectOpen, 1),
            b'}' => (Kind::ObjectClose, 1),
            b'[' => (Kind::ArrayOpen, 1),
            b']' => (Kind::ArrayClose, 1),
            b't' => (Kind::Bool(true), 4),
            b'f' => (Kind::Bool(false), 5),
            b'n' => (Kind::Null, 4),
            b'"' => {
                let (text, length) = self.text(start)?;
                (Kind::Text(text), length)
            }
            _ => {
                let part =
                    |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                (Kind::Number, value[start..].iter().take_while(|byte| part(byte)).count().max(1))
            }
        };
        self.next = (start + length).min(value.len());
        Ok(Token { kind, start, raw: &value[start..self.next] })
    }

    /// The text that begins at `start`, and its length as it is written.
    fn text(&self, start: usize) -> Result<(Cow<'a, str>, usize), String> {
        let rest = &self.value[start + 1..];
        let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(rest.len());
        let wrong = |what: &str| format!("syntax error ({}): {what}", self.place(start));
        let utf8 = |bytes: &'a [u8]| {
            std::str::from_utf8(bytes).map_err(|_| wrong("invalid UTF-8 in string"))
        };
        if rest.get(plain) == Some(&b'"') {
            return Ok((Cow::Borrowed(utf8(&rest[..plain])?), plain + 2));
        }
        let (mut text, mut next) = (utf8(&rest[..plain])?.to_owned(), plain);
        loop {
            match rest.get(next) {
                None => return Err("unexpected EOF".into()),
                Some(b'"') => return Ok((Cow::Owned(text), next + 2)),
                Some(b'\\') => {
                    let (character, length) = escape(&rest[next..]).map_err(|length| {
                        let code = String::from_utf8_lossy(&rest[next..next + length]);
                        wrong(&format!("invalid escape code {code:?} in string"))
                    })?;
                    text.push(character);
                    next += length;
                }
                Some(_) => {
                    let plain = rest[next..].iter().position(|b| matches!(b, b'"' | b'\\'));
                    let plain = plain.unwrap_or(rest.len() - next);
                    text.push_str(utf8(&rest[next..next + plain])?);
                    next += plain;
                }
            }
        }
    }
}

/// The character of an escape code and the code's length, or the length of what is wrong.
fn escape(code: &[u8]) -> Result<(char, usize), usize> {
    let simple = match code.get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => {
            let first = hex(code).ok_or(code.len().min(6))?;
            if let Some(character) = char::from_u32(first) {
                return Ok((character, 6));
            }
            let rest = &code[6..];
            let second = hex(rest).filter(|_| rest.starts_with(b"\\u"));
            let pair = second.and_then(|second| u16::try_from(second).ok());
            let pair = pair.map(|second| [first as u16, second]);
            let character = pair.and_then(|pair| char::decode_utf16(pair).next()?.ok());
            return character.map(|character| (character, 12)).ok_or(code.len().min(6));
        }
        Some(other) => char::from(*other),
        None => return Err(code.len()),
    };
    Ok((simple, 2))
}

fn hex(code: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(code.get(2..6)?).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

/// The whole number that a JSON number is, if it is one: `1e2` and `5.0` are.
pub(super) fn whole_number(raw: &str) -> Option<i128> {
    /// More digits than any of our integers has.
    const DIGITS_MAX: usize = 20;
    let (negative, digits) = raw.strip_prefix('-').map_or((false, raw), |digits| (true, digits));
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    if whole.is_empty() && fraction.is_empty() {
        return Some(0);
    }
    let shift = usize::try_from(exponent.unsigned_abs()).ok()?;
    let text = if exponent >= 0 {
        if fraction.len() > shift || whole.len() + shift > DIGITS_MAX {
            return None;
        }
        format!("{whole}{fraction}{}", "0".repeat(shift - fraction.len()))
    } else {
        let kept = whole.len().checked_sub(shift)?;
        if !fraction.is_empty() || whole[kept..].bytes().any(|digit| digit != b'0') {
            return None;
        }
        whole[..kept].to_owned()
    };
    if text.len() > 2 * DIGITS_MAX - 2 {
        return None;
    }
    let number: i128 = if text.is_empty() { 0 } else { text.parse().ok()? };
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_unescaped() {
        let mut tokens = Tokens::new(br#""a\n\u00e9\ud83d\ude00\/" 1"#);
        assert_eq!(tokens.read().unwrap().kind, Kind::Text("a\né😀/".into()));
        assert_eq!(tokens.read().unwrap().kind, Kind::Number);
        assert_eq!(tokens.read().unwrap().kind, Kind::End);
    }

    #[test]
    fn half_a_pair_and_broken_utf8_are_refused_with_their_place() {
        let error = |bytes: &[u8]| Tokens::new(bytes).read().unwrap_err();
        assert_eq!(
            error(br#""\ud83dx""#),
            r#"syntax error (line 1:1): invalid escape code "\\ud83d" in string"#
        );
        assert_eq!(error(b"\n \"\xff\""), "syntax error (line 2:2): invalid UTF-8 in string");
    }

    #[test]
    fn whole_numbers_may_be_written_with_an_exponent() {
        for (raw, number) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("12", Some(12)),
            ("-12", Some(-12)),
            ("1e3", Some(1000)),
            ("5.0", Some(5)),
            ("1.5", None),
            ("1.5e1", Some(15)),
            ("150e-1", Some(15)),
            ("15e-1", None),
            ("1e99", None),
            ("1e-99", None),
            ("9223372036854775808", Some(9_223_372_036_854_775_808)),
        ] {
            assert_eq!(whole_number(raw), number, "{raw}");
        }
        assert_eq!(whole_number(&"9".repeat(1000)), None);
    }
}
