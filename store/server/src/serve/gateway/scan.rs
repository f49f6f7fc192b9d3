//! Where one JSON value in a body ends, or what is wrong with it in the words of Go's
//! `encoding/json`, through which etcd's gateway reads bodies.
//!
//! Owns: the grammar of JSON and its error texts. Must not know: messages. A newcomer's trap: what
//! follows the first value is not looked at: a stream has several, and a single request ignores it.

use crate::limits::GATEWAY_JSON_DEPTH_MAX;

/// What a body begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A value in this range of bytes.
    Value(std::ops::Range<usize>),
    /// The beginning of a value: more bytes are needed.
    Incomplete,
    /// White space only.
    Nothing,
}

/// The text for a body that ends inside a value.
pub(super) const UNEXPECTED_END: &str = "unexpected EOF";

/// Looks for the first value of a body that grows. It never looks at a byte twice.
#[derive(Default)]
pub(super) struct Finder {
    scanner: Scanner,
    start: Option<usize>,
    seen: usize,
}

impl Finder {
    /// Goes on with `bytes`, which begin with those of the call before. With `ended`, nothing
    /// follows them.
    pub(super) fn look(&mut self, bytes: &[u8], ended: bool) -> Result<Found, String> {
        for (offset, byte) in bytes.iter().enumerate().skip(self.seen) {
            if self.start.is_none() && is_space(*byte) {
                continue;
            }
            let start = *self.start.get_or_insert(offset);
            match self.scanner.step(*byte)? {
                Step::Goes => {}
                Step::EndsHere => return Ok(Found::Value(start..offset + 1)),
                Step::EndedBefore => return Ok(Found::Value(start..offset)),
            }
        }
        self.seen = bytes.len();
        let Some(start) = self.start else { return Ok(Found::Nothing) };
        // A number ends with what follows it, be it the end of the body.
        if ended && matches!(self.scanner.step(b' '), Ok(Step::EndedBefore)) {
            return Ok(Found::Value(start..bytes.len()));
        }
        Ok(Found::Incomplete)
    }
}

enum Step {
    /// The value goes on.
    Goes,
    /// This byte is its last.
    EndsHere,
    /// The byte before was its last.
    EndedBefore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    ObjectKey,
    ObjectValue,
    Array,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Value,
    ValueOrEndOfArray,
    Key,
    KeyOrEndOfObject,
    AfterValue,
    Text,
    Escape,
    Hex(u8),
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    Word(&'static str, usize),
}

struct Scanner {
    state: State,
    open: Vec<Open>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self { state: State::Value, open: Vec::new() }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

// === impl Scanner ===

#[allow(clippy::unnecessary_wraps, reason = "a step of any kind is a result")]
impl Scanner {
    fn step(&mut self, byte: u8) -> Result<Step, String> {
        match self.state {
            State::Value | State::ValueOrEndOfArray => self.value(byte),
            State::Key | State::KeyOrEndOfObject => self.key(byte),
            State::AfterValue => self.after_value(byte),
            State::Text | State::Escape | State::Hex(_) => self.text(byte),
            State::Word(word, next) => self.word(byte, word, next),
            _ => self.number(byte),
        }
    }

    fn goes(&mut self, state: State) -> Result<Step, String> {
        self.state = state;
        Ok(Step::Goes)
    }

    fn push(&mut self, open: Open, state: State) -> Result<Step, String> {
        if self.open.len() >= GATEWAY_JSON_DEPTH_MAX {
            return Err("exceeded max depth".into());
        }
        self.open.push(open);
        self.goes(state)
    }

    fn value(&mut self, byte: u8) -> Result<Step, String> {
        match byte {
            byte if is_space(byte) => Ok(Step::Goes),
            b']' if matches!(self.state, State::ValueOrEndOfArray) => self.close(),
            b'{' => self.push(Open::ObjectKey, State::KeyOrEndOfObject),
            b'[' => self.push(Open::Array, State::ValueOrEndOfArray),
            b'"' => self.goes(State::Text),
            b'-' => self.goes(State::Minus),
            b'0' => self.goes(State::Zero),
            b'1'..=b'9' => self.goes(State::Digits),
            b't' => self.goes(State::Word("true", 1)),
            b'f' => self.goes(State::Word("false", 1)),
            b'n' => self.goes(State::Word("null", 1)),
            _ => Err(invalid(byte, "looking for beginning of value")),
        }
    }

    fn key(&mut self, byte: u8) -> Result<Step, String> {
        match byte {
            byte if is_space(byte) => Ok(Step::Goes),
            b'}' if matches!(self.state, State::KeyOrEndOfObject) => self.close(),
            b'"' => self.goes(State::Text),
            _ => Err(invalid(byte, "looking for beginning of object key string")),
        }
    }

    /// The last byte of an object or a list.
    fn close(&mut self) -> Result<Step, String> {
        self.open.pop();
        self.state = State::AfterValue;
        Ok(if self.open.is_empty() { Step::EndsHere } else { Step::Goes })
    }

    /// The last byte of a text or a word.
    fn end_here(&mut self) -> Result<Step, String> {
        self.state = State::AfterValue;
        Ok(if self.open.is_empty() { Step::EndsHere } else { Step::Goes })
    }

    fn after_value(&mut self, byte: u8) -> Result<Step, String> {
        let Some(open) = self.open.last_mut() else { return Ok(Step::EndedBefore) };
        if is_space(byte) {
            return Ok(Step::Goes);
        }
        match (*open, byte) {
            (Open::ObjectKey, b':') => {
                *open = Open::ObjectValue;
                self.goes(State::Value)
            }
            (Open::ObjectKey, _) => Err(invalid(byte, "after object key")),
            (Open::ObjectValue, b',') => {
                *open = Open::ObjectKey;
                self.goes(State::Key)
            }
            (Open::ObjectValue, b'}') | (Open::Array, b']') => self.close(),
            (Open::ObjectValue, _) => Err(invalid(byte, "after object key:value pair")),
            (Open::Array, b',') => self.goes(State::Value),
            (Open::Array, _) => Err(invalid(byte, "after array element")),
        }
    }

    fn text(&mut self, byte: u8) -> Result<Step, String> {
        match (self.state, byte) {
            (State::Escape, b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => {
                self.goes(State::Text)
            }
            (State::Escape, b'u') => self.goes(State::Hex(4)),
            (State::Escape, _) => Err(invalid(byte, "in string escape code")),
            (State::Hex(left), _) if byte.is_ascii_hexdigit() => {
                self.goes(if left == 1 { State::Text } else { State::Hex(left - 1) })
            }
            (State::Hex(_), _) => Err(invalid(byte, "in \\u hexadecimal character escape")),
            (_, b'"') => self.end_here(),
            (_, b'\\') => self.goes(State::Escape),
            (_, ..b' ') => Err(invalid(byte, "in string literal")),
            _ => Ok(Step::Goes),
        }
    }

    fn word(&mut self, byte: u8, word: &'static str, next: usize) -> Result<Step, String> {
        let expected = word.as_bytes()[next];
        if byte != expected {
            let expected = char::from(expected);
            return Err(invalid(byte, &format!("in literal {word} (expecting '{expected}')")));
        }
        if next + 1 == word.len() {
            self.end_here()
        } else {
            self.goes(State::Word(word, next + 1))
        }
    }

    fn number(&mut self, byte: u8) -> Result<Step, String> {
        let digit = byte.is_ascii_digit();
        match self.state {
            State::Minus if byte == b'0' => self.goes(State::Zero),
            State::Minus if digit => self.goes(State::Digits),
            State::Minus => Err(invalid(byte, "in numeric literal")),
            State::Digits if digit => Ok(Step::Goes),
            State::Zero | State::Digits if byte == b'.' => self.goes(State::Point),
            State::Point | State::Fraction if digit => self.goes(State::Fraction),
            State::Point => Err(invalid(byte, "after decimal point in numeric literal")),
            State::Zero | State::Digits | State::Fraction if matches!(byte, b'e' | b'E') => {
                self.goes(State::Exponent)
            }
            State::Exponent if matches!(byte, b'+' | b'-') => self.goes(State::ExponentSign),
            State::Exponent | State::ExponentSign | State::ExponentDigits if digit => {
                self.goes(State::ExponentDigits)
            }
            State::Exponent | State::ExponentSign => {
                Err(invalid(byte, "in exponent of numeric literal"))
            }
            _ => {
                self.state = State::AfterValue;
                self.after_value(byte)
            }
        }
    }
}

fn invalid(byte: u8, context: &str) -> String {
    format!("invalid character {} {context}", quoted(byte))
}

/// A byte as Go quotes it: as a character of that number.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".into(),
        b'\\' => r"'\\'".into(),
        7 => r"'\a'".into(),
        8 => r"'\b'".into(),
        b'\t' => r"'\t'".into(),
        b'\n' => r"'\n'".into(),
        11 => r"'\v'".into(),
        12 => r"'\f'".into(),
        b'\r' => r"'\r'".into(),
        0..b' ' | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..=0xa0 | 0xad => format!("'\\u{byte:04x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Result<Found, String> {
        Finder::default().look(text.as_bytes(), true)
    }

    #[test]
    fn the_first_value_ends_where_it_ends() {
        assert_eq!(found(r#" {"a":[1,{"b":"}"}]} {}"#), Ok(Found::Value(1..20)));
        assert_eq!(found("12"), Ok(Found::Value(0..2)));
        assert_eq!(found("12,"), Ok(Found::Value(0..2)));
        assert_eq!(found("null"), Ok(Found::Value(0..4)));
        assert_eq!(found(" \n"), Ok(Found::Nothing));
        assert_eq!(found("{\"a\""), Ok(Found::Incomplete));
        let mut finder = Finder::default();
        assert_eq!(finder.look(b"12", false), Ok(Found::Incomplete));
        assert_eq!(finder.look(b"123 4", false), Ok(Found::Value(0..3)));
    }

    #[test]
    fn errors_are_worded_as_go_words_them() {
        for (text, expected) in [
            ("{not json", "'n' looking for beginning of object key string"),
            ("x", "'x' looking for beginning of value"),
            (r#"{"a" 1}"#, "'1' after object key"),
            (r#"{"a":1 "b"}"#, "'\"' after object key:value pair"),
            ("[1 2]", "'2' after array element"),
            ("tru!", "'!' in literal true (expecting 'e')"),
            ("-x", "'x' in numeric literal"),
            ("1.x", "'x' after decimal point in numeric literal"),
            ("1ex", "'x' in exponent of numeric literal"),
            ("\"\n\"", "'\\n' in string literal"),
            (r#""\x""#, "'x' in string escape code"),
            (r#""\u12g4""#, "'g' in \\u hexadecimal character escape"),
            ("'", "'\\'' looking for beginning of value"),
            ("[1,]", "']' looking for beginning of value"),
            (r#"{"a":1,}"#, "'}' looking for beginning of object key string"),
        ] {
            assert_eq!(found(text), Err(format!("invalid character {expected}")), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "[".repeat(GATEWAY_JSON_DEPTH_MAX + 1);
        assert_eq!(found(&deep), Err("exceeded max depth".into()));
        let fits = "[".repeat(GATEWAY_JSON_DEPTH_MAX);
        assert_eq!(found(&fits), Ok(Found::Incomplete));
    }
}
