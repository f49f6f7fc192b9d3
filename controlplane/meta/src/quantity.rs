//! Quantities: `500m`, `1Gi`, `2e3`, exactly as Kubernetes reads, rounds and prints them.
//!
//! Owns: parsing, arithmetic and the canonical form. Must not know: what is measured. A newcomer's
//! trap: the canonical form keeps the family of suffix that came in (binary, decimal or exponent),
//! so `1024Mi` becomes `1Gi` but `1073741824` stays a number.

use std::cmp::Ordering;
use std::fmt;

/// Quantities are held in billionths: finer ones are rounded up, as Kubernetes does.
const NANO: i128 = 1_000_000_000;
/// The largest amount held: far above the `i64` that Kubernetes caps binary quantities at.
const NANO_MAX: i128 = i128::MAX / 1024;

/// Which suffixes the canonical form uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `Ki`, `Mi`, …
    Binary,
    /// `m`, `k`, `M`, …
    Decimal,
    /// `e3`, `e6`, …
    Exponent,
}

/// An exact amount.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// Why a text is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number with a suffix.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// The suffix is not known.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    /// Zero.
    pub const ZERO: Self = Self { nano: 0, format: Format::Decimal };

    /// Reads a quantity.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let (negative, rest) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, rest) = rest.split_at(digits(rest));
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(digits(rest)),
            None => ("", rest),
        };
        check_suffix_letters(suffix)?;
        let (base, exponent, mut format) = suffix_meaning(suffix).ok_or(QuantityError::Suffix)?;
        let mut nano = match base {
            10 => decimal_nano(whole, fraction, exponent),
            _ => binary_nano(whole, fraction, exponent as u32),
        };
        if format == Format::Binary {
            nano = nano.min(i128::from(i64::MAX) * NANO);
            if nano > 0 && nano < NANO {
                format = Format::Decimal;
            }
        }
        Ok(Self { nano: if negative { -nano } else { nano }, format })
    }

    /// The text that Kubernetes writes for `text`: as it came if it is already normal enough (`1.500`
    /// and `1E3` stay), else in canonical form (`1024Mi` becomes `1Gi`).
    pub fn canonical(text: &str) -> Result<String, QuantityError> {
        let quantity = Self::parse(text)?;
        Ok(if is_kept(text) { text.into() } else { quantity.to_string() })
    }

    /// A whole number of units.
    pub fn from_units(units: i64, format: Format) -> Self {
        Self { nano: i128::from(units) * NANO, format }
    }

    /// A number of thousandths, such as milli-CPUs.
    pub fn from_milli(milli: i64) -> Self {
        Self { nano: i128::from(milli) * (NANO / 1000), format: Format::Decimal }
    }

    /// The amount in units, rounded up (away from zero), as Kubernetes' `Value()`.
    pub fn units(self) -> i64 {
        clamp(round_away(self.nano, NANO))
    }

    /// The amount in thousandths, rounded up (away from zero), as Kubernetes' `MilliValue()`.
    pub fn milli(self) -> i64 {
        clamp(round_away(self.nano, NANO / 1000))
    }

    /// Whether the amount is zero.
    pub fn is_zero(self) -> bool {
        self.nano == 0
    }

    /// Whether the amount is a whole number of units.
    pub fn is_whole(self) -> bool {
        self.nano % NANO == 0
    }

    /// -1, 0 or 1.
    pub fn sign(self) -> i32 {
        self.nano.signum() as i32
    }

    /// The sum, in the format of `self` unless that is zero.
    pub fn plus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nano: self.nano.saturating_add(other.nano), format }
    }

    /// The difference, in the format of `self` unless that is zero.
    pub fn minus(self, other: Self) -> Self {
        self.plus(Self { nano: -other.nano, format: other.format })
    }
}

/// Whether Kubernetes keeps the text of a quantity (known to parse) as it came.
fn is_kept(text: &str) -> bool {
    let number = text.trim_start_matches(['-', '+']).trim_start_matches('0');
    let end = number.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, suffix) = number.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = if whole.is_empty() { "0" } else { whole };
    let Some((base, exponent, _)) = suffix_meaning(suffix) else { return false };
    let digits = format!("{whole}{fraction}");
    if base == 10 {
        let scale = i64::from(exponent) - fraction.len() as i64;
        let small = digits.len() <= 18 && scale >= -9;
        return small && scale % 3 == 0 && !digits.ends_with("000") && !digits.starts_with('0');
    }
    let small = whole.len() as i32 + exponent * 3 / 10 < 15;
    small && fraction.is_empty() && digits.parse::<i64>().is_ok_and(|value| value & 7 != 0)
}

/// After the number only suffix letters, then a sign, then digits may come.
fn check_suffix_letters(suffix: &str) -> Result<(), QuantityError> {
    let letters = suffix.bytes().take_while(|byte| b"eEinumkKMGTP".contains(byte)).count();
    let rest = &suffix[letters..];
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    if rest.bytes().all(|byte| byte.is_ascii_digit()) { Ok(()) } else { Err(QuantityError::Format) }
}

fn suffix_meaning(suffix: &str) -> Option<(u8, i32, Format)> {
    let decimal = |exponent| Some((10, exponent, Format::Decimal));
    let binary = |exponent| Some((2, exponent, Format::Binary));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let digits = suffix.strip_prefix(['e', 'E'])?;
            let exponent: i64 = digits.parse().ok()?;
            Some((10, exponent.clamp(-1000, 1000) as i32, Format::Exponent))
        }
    }
}

/// `whole.fraction × 10^exponent` in billionths, rounded up, saturating.
fn decimal_nano(whole: &str, fraction: &str, exponent: i32) -> i128 {
    // The digit that stands for 10^-9 is at this place of all digits.
    let places = whole.len() as i64 + i64::from(exponent) + 9;
    let digits = whole.bytes().chain(fraction.bytes()).map(|byte| i128::from(byte - b'0'));
    let mut nano: i128 = 0;
    let mut rest = false;
    let mut count = 0;
    for digit in digits {
        if count < places {
            nano = (nano.saturating_mul(10).saturating_add(digit)).min(NANO_MAX);
        } else {
            rest |= digit != 0;
        }
        count += 1;
    }
    while count < places && nano != 0 && nano < NANO_MAX {
        nano = nano.saturating_mul(10).min(NANO_MAX);
        count += 1;
    }
    nano + i128::from(rest)
}

/// `whole.fraction × 2^exponent` in billionths, rounded up, saturating.
fn binary_nano(whole: &str, fraction: &str, exponent: u32) -> i128 {
    let cap = i128::from(i64::MAX) * NANO;
    let units = whole.bytes().fold(0i128, |sum, byte| {
        sum.saturating_mul(10).saturating_add(i128::from(byte - b'0')).min(i128::from(i64::MAX))
    });
    let mut nano = (units << exponent).saturating_mul(NANO).min(cap);
    // Fractions: digits × 2^exponent / 10^n; 18 digits are exact, what follows only rounds up.
    let kept = &fraction[..fraction.len().min(18)];
    let rest = fraction[kept.len()..].bytes().any(|byte| byte != b'0');
    if !kept.is_empty() {
        let numerator = kept.bytes().fold(0i128, |sum, byte| sum * 10 + i128::from(byte - b'0'));
        let denominator = 10i128.pow(kept.len() as u32);
        let scaled = numerator << exponent;
        let (units, left) = (scaled / denominator, scaled % denominator);
        let left_nano = left * NANO;
        nano = nano.saturating_add(units * NANO).saturating_add(left_nano / denominator);
        nano += i128::from(left_nano % denominator != 0 || rest);
    }
    nano.min(cap)
}

fn round_away(nano: i128, unit: i128) -> i128 {
    let (whole, rest) = (nano / unit, nano % unit);
    whole + if rest == 0 { 0 } else { rest.signum() }
}

fn clamp(value: i128) -> i64 {
    value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let binary = self.format == Format::Binary
            && self.nano % NANO == 0
            && self.nano.abs() >= 1024 * NANO;
        if binary {
            let mut units = self.nano / NANO;
            let mut step = 0;
            while units % 1024 == 0 && step < 6 {
                units /= 1024;
                step += 1;
            }
            return write!(f, "{units}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][step]);
        }
        let mut number = self.nano;
        let mut exponent = -9;
        while number % 1000 == 0 && (exponent < 18 || self.format == Format::Exponent) {
            number /= 1000;
            exponent += 3;
        }
        if self.format == Format::Exponent {
            return if exponent == 0 {
                write!(f, "{number}")
            } else {
                write!(f, "{number}e{exponent}")
            };
        }
        let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][(exponent / 3 + 3) as usize];
        write!(f, "{number}{suffix}")
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl std::str::FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        for (given, canonical) in [
            ("0", "0"),
            ("0Gi", "0"),
            ("1024Mi", "1Gi"),
            ("1500m", "1500m"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1000", "1k"),
            ("1073741824", "1073741824"),
            ("512Ki", "512Ki"),
            ("100Ki", "100Ki"),
            ("0.5Ki", "512"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e6", "12e6"),
            ("0.1n", "1n"),
            ("1.0000000001", "1000000001n"),
            ("-2", "-2"),
            ("+2", "2"),
            ("1.", "1"),
            ("Gi", "0"),
            (".", "0"),
            (".5", "500m"),
            ("01", "1"),
            ("9999999Ei", "9223372036854775807"),
            ("1000000k", "1G"),
            ("1u", "1u"),
        ] {
            assert_eq!(Quantity::parse(given).unwrap().to_string(), canonical, "{given}");
        }
    }

    #[test]
    fn texts_that_stay_as_they_came() {
        for (given, written) in [
            ("1024Mi", "1Gi"),
            ("1025Mi", "1025Mi"),
            ("1500m", "1500m"),
            ("2000m", "2"),
            ("1.5", "1500m"),
            ("1.500", "1.500"),
            ("1E3", "1E3"),
            ("0.1", "100m"),
            ("1", "1"),
            ("1000", "1k"),
            ("64Mi", "64Mi"),
            ("0", "0"),
        ] {
            assert_eq!(Quantity::canonical(given).unwrap(), written, "{given}");
        }
    }

    #[test]
    fn what_is_not_a_quantity() {
        for (given, error) in [
            ("", QuantityError::Format),
            ("x", QuantityError::Format),
            ("1x", QuantityError::Format),
            ("1 Gi", QuantityError::Format),
            ("1.2.3", QuantityError::Format),
            ("1KiB", QuantityError::Format),
            ("1kk", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
            ("1i", QuantityError::Suffix),
        ] {
            assert_eq!(Quantity::parse(given).unwrap_err(), error, "{given}");
        }
    }

    #[test]
    fn hostile_numbers_are_bounded() {
        let digits = "9".repeat(100_000);
        for text in
            [digits.clone(), format!("0.{digits}"), format!("{digits}Ei"), "1e999999".into()]
        {
            let _ = Quantity::parse(&text).unwrap().to_string();
        }
    }

    #[test]
    fn sums_and_rounding() {
        let half = Quantity::parse("500m").unwrap();
        assert_eq!((half.units(), half.milli()), (1, 500));
        assert_eq!(half.plus(half).to_string(), "1");
        let memory = Quantity::parse("1Gi").unwrap();
        assert_eq!(memory.minus(Quantity::parse("512Mi").unwrap()).to_string(), "512Mi");
        assert!(Quantity::parse("1Gi").unwrap() > Quantity::parse("1G").unwrap());
    }
}
