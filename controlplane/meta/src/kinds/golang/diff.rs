//! Unified diffs, as the library that Kubernetes uses makes them.
//!
//! Owns: the Ratcliff-Obershelp matching of lines and the text made from it. Must not know: what
//! the lines mean. A newcomer's trap: in long texts, lines that are frequent do not start a match
//! (`difflib`'s "autojunk"), and leaving that out gives other, equally right, diffs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

const CONTEXT: usize = 3;
/// Most steps spent on matching; what is left then counts as changed.
const STEPS_MAX: usize = 20_000_000;

/// The lines of `a` that became the lines of `b`, with three lines about each change.
pub(crate) fn unified(a: &str, b: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (a.split('\n').collect(), b.split('\n').collect());
    let mut out = String::new();
    for group in groups(changes(&a, &b)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let _ =
            writeln!(out, "@@ -{} +{} @@", span(first.a.0, last.a.1), span(first.b.0, last.b.1));
        for change in &group {
            let mut put = |sign: char, lines: &[&str], (from, to): (usize, usize)| {
                for line in lines.get(from..to).unwrap_or(&[]) {
                    let _ = writeln!(out, "{sign}{line}");
                }
            };
            if change.same {
                put(' ', &a, change.a);
            } else {
                put('-', &a, change.a);
                put('+', &b, change.b);
            }
        }
    }
    out
}

fn span(from: usize, to: usize) -> String {
    match to - from {
        1 => format!("{}", from + 1),
        0 => format!("{from},0"),
        length => format!("{},{length}", from + 1),
    }
}

#[derive(Clone, Copy, Debug)]
struct Change {
    same: bool,
    a: (usize, usize),
    b: (usize, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    a: usize,
    b: usize,
    length: usize,
}

/// Cuts the equal parts to the context and splits where they are long.
fn groups(mut changes: Vec<Change>) -> Vec<Vec<Change>> {
    if let Some(first) = changes.first_mut().filter(|one| one.same) {
        first.a.0 = first.a.0.max(first.a.1.saturating_sub(CONTEXT));
        first.b.0 = first.b.0.max(first.b.1.saturating_sub(CONTEXT));
    }
    if let Some(last) = changes.last_mut().filter(|one| one.same) {
        last.a.1 = last.a.1.min(last.a.0 + CONTEXT);
        last.b.1 = last.b.1.min(last.b.0 + CONTEXT);
    }
    let mut all = Vec::new();
    let mut group: Vec<Change> = Vec::new();
    for mut change in changes {
        if change.same && change.a.1 - change.a.0 > 2 * CONTEXT {
            let mut head = change;
            head.a.1 = change.a.1.min(change.a.0 + CONTEXT);
            head.b.1 = change.b.1.min(change.b.0 + CONTEXT);
            group.push(head);
            all.push(std::mem::take(&mut group));
            change.a.0 = change.a.0.max(change.a.1.saturating_sub(CONTEXT));
            change.b.0 = change.b.0.max(change.b.1.saturating_sub(CONTEXT));
        }
        group.push(change);
    }
    if !matches!(group.as_slice(), [] | [Change { same: true, .. }]) {
        all.push(group);
    }
    all
}

fn changes(a: &[&str], b: &[&str]) -> Vec<Change> {
    let mut all = Vec::new();
    let (mut at_a, mut at_b) = (0, 0);
    for block in blocks(a, b) {
        if at_a < block.a || at_b < block.b {
            all.push(Change { same: false, a: (at_a, block.a), b: (at_b, block.b) });
        }
        at_a = block.a + block.length;
        at_b = block.b + block.length;
        if block.length > 0 {
            all.push(Change { same: true, a: (block.a, at_a), b: (block.b, at_b) });
        }
    }
    all
}

/// All equal blocks in order, and an empty one at the end.
fn blocks(a: &[&str], b: &[&str]) -> Vec<Block> {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, line) in b.iter().enumerate() {
        places.entry(line).or_default().push(index);
    }
    if b.len() >= 200 {
        let frequent = b.len() / 100 + 1;
        places.retain(|_, at| at.len() <= frequent);
    }
    let mut found = BTreeSet::new();
    let mut todo = vec![(0, a.len(), 0, b.len())];
    let mut steps = STEPS_MAX;
    while let Some((a_from, a_to, b_from, b_to)) = todo.pop() {
        let block = longest(a, b, &places, (a_from, a_to), (b_from, b_to), &mut steps);
        if block.length == 0 {
            continue;
        }
        found.insert(block);
        todo.push((a_from, block.a, b_from, block.b));
        todo.push((block.a + block.length, a_to, block.b + block.length, b_to));
    }
    let mut all: Vec<Block> = Vec::new();
    for block in found {
        match all.last_mut() {
            Some(last) if last.a + last.length == block.a && last.b + last.length == block.b => {
                last.length += block.length;
            }
            _ => all.push(block),
        }
    }
    all.push(Block { a: a.len(), b: b.len(), length: 0 });
    all
}

/// The longest equal block within two ranges, the first one if there are several.
fn longest(
    a: &[&str],
    b: &[&str],
    places: &BTreeMap<&str, Vec<usize>>,
    (a_from, a_to): (usize, usize),
    (b_from, b_to): (usize, usize),
    steps: &mut usize,
) -> Block {
    let mut best = Block { a: a_from, b: b_from, length: 0 };
    let mut lengths: BTreeMap<usize, usize> = BTreeMap::new();
    for (offset, line) in a.get(a_from..a_to).unwrap_or(&[]).iter().enumerate() {
        let index = a_from + offset;
        *steps = steps.saturating_sub(1);
        let mut next = BTreeMap::new();
        for at in places.get(line).into_iter().flatten().copied() {
            *steps = steps.saturating_sub(1);
            if *steps == 0 {
                return best;
            }
            if at < b_from {
                continue;
            }
            if at >= b_to {
                break;
            }
            let before = at.checked_sub(1).and_then(|before| lengths.get(&before)).unwrap_or(&0);
            let length = before + 1;
            next.insert(at, length);
            if length > best.length {
                best = Block { a: index + 1 - length, b: at + 1 - length, length };
            }
        }
        lengths = next;
    }
    while best.a > a_from && best.b > b_from && a.get(best.a - 1) == b.get(best.b - 1) {
        best = Block { a: best.a - 1, b: best.b - 1, length: best.length + 1 };
    }
    while best.a + best.length < a_to
        && best.b + best.length < b_to
        && a.get(best.a + best.length) == b.get(best.b + best.length)
    {
        best.length += 1;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changed_line() {
        let a = "1\n2\n3\n4\n5\n6\n7\n8";
        let b = "1\n2\n3\n4\nx\n6\n7\n8";
        assert_eq!(unified(a, b), "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n");
        assert_eq!(unified(a, a), "");
    }

    #[test]
    fn far_changes_are_apart() {
        let a: Vec<String> = (0..20).map(|line| line.to_string()).collect();
        let mut b = a.clone();
        b[1] = "x".into();
        b.remove(18);
        assert_eq!(
            unified(&a.join("\n"), &b.join("\n")),
            "@@ -1,5 +1,5 @@\n 0\n-1\n+x\n 2\n 3\n 4\n@@ -16,5 +16,4 @@\n 15\n 16\n 17\n-18\n 19\n"
        );
    }
}
