//! Schedules in the form of cron.
//!
//! Owns: which texts are schedules, and the words for those that are not. Must not know: time. A
//! newcomer's trap: each field has its own bounds, and months and weekdays may be names.

/// One of the five fields: its bounds and the names that stand for numbers.
struct Field {
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { low: 0, high: 59, names: &[] },
    Field { low: 0, high: 23, names: &[] },
    Field { low: 1, high: 31, names: &[] },
    Field {
        low: 1,
        high: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Field { low: 0, high: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

/// What is wrong with a schedule, if anything is.
pub(crate) fn schedule(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("empty spec string".into());
    }
    if let Some(word) = text.strip_prefix('@') {
        let known = ["yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly"];
        if known.contains(&word) || word.starts_with("every ") {
            return Ok(());
        }
        return Err(format!("unrecognized descriptor: {text}"));
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        ));
    }
    for (text, field) in fields.iter().zip(&FIELDS) {
        for part in text.split(',') {
            range(part, field)?;
        }
    }
    Ok(())
}

fn range(part: &str, field: &Field) -> Result<(), String> {
    let pieces: Vec<&str> = part.split('/').collect();
    let [span, step @ ..] = pieces.as_slice() else { return Ok(()) };
    let (low, high) = match span.split_once('-') {
        _ if matches!(*span, "*" | "?") => (field.low, field.high),
        Some((low, high)) => (number(low, field)?, number(high, field)?),
        None => {
            let low = number(span, field)?;
            (low, if step.is_empty() { low } else { field.high })
        }
    };
    match step {
        [] => {}
        [step] if number(step, field)? == 0 => {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        [_] => {}
        _ => return Err(format!("too many slashes: {part}")),
    }
    if low < field.low {
        return Err(format!("beginning of range ({low}) below minimum ({}): {part}", field.low));
    }
    if high > field.high {
        return Err(format!("end of range ({high}) above maximum ({}): {part}", field.high));
    }
    if low > high {
        return Err(format!("beginning of range ({low}) beyond end of range ({high}): {part}"));
    }
    Ok(())
}

fn number(text: &str, field: &Field) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(index) = field.names.iter().position(|name| *name == lower) {
        return Ok(field.low + u32::try_from(index).unwrap_or(0));
    }
    text.parse().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        for good in ["*/5 * * * *", "0 0 1 jan mon-fri", "@daily", "@every 5m", "1-5,7 2/3 * * ?"] {
            assert_eq!(schedule(good), Ok(()), "{good}");
        }
        for (bad, wanted) in [
            ("never", "expected exactly 5 fields, found 1: [never]"),
            ("", "empty spec string"),
            ("@never", "unrecognized descriptor: @never"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            (
                "x * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
        ] {
            assert_eq!(schedule(bad), Err(wanted.to_owned()), "{bad}");
        }
    }
}
