//! Reverse Polish notation: numbers go on a stack, and words work on its top.

use crate::infix::{constant, one_of};

/// Numbers on the stack.
const STACK_MAX: usize = 1_000;

/// The value of an expression.
///
/// # Errors
/// What is wrong with it, in plain words.
pub(crate) fn evaluate(text: &str) -> Result<f64, String> {
    let mut stack: Vec<f64> = Vec::new();
    for word in text.split_whitespace() {
        if stack.len() >= STACK_MAX {
            return Err(format!("more than {STACK_MAX} numbers"));
        }
        if let Some(number) = word.parse().ok().filter(|_| is_number(word)).or(constant(word)) {
            stack.push(number);
            continue;
        }
        if !is_known(word) {
            return Err(format!("`{word}` is unknown"));
        }
        let mut pop = || stack.pop().ok_or_else(|| format!("`{word}` finds too few numbers"));
        let top = pop()?;
        match word {
            "drop" => {}
            "dup" => stack.extend([top, top]),
            "neg" => stack.push(-top),
            _ => match one_of(word) {
                Some(run) => stack.push(run(top)),
                None => {
                    let below = pop()?;
                    stack.extend(binary(word, below, top));
                }
            },
        }
    }
    match stack.as_slice() {
        [value] => Ok(*value),
        [] => Err("nothing is left".into()),
        more => Err(format!("{} numbers are left", more.len())),
    }
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
}

/// Words that take the topmost number, or two.
const WORDS: &[&str] = &["drop", "dup", "neg", "+", "-", "*", "/", "%", "mod", "^", "pow", "swap"];

fn is_known(word: &str) -> bool {
    WORDS.contains(&word) || one_of(word).is_some()
}

fn binary(word: &str, a: f64, b: f64) -> Vec<f64> {
    vec![match word {
        "+" => a + b,
        "-" => a - b,
        "*" => a * b,
        "/" => a / b,
        "%" | "mod" => a % b,
        "^" | "pow" => a.powf(b),
        _ => return vec![b, a],
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_work_on_the_top_of_the_stack() {
        for (text, value) in [
            ("1 4 2 / +", 3.0),
            ("2 3 swap -", 1.0),
            ("5 dup *", 25.0),
            ("1 2 drop", 1.0),
            ("9 sqrt neg", -3.0),
            ("7 4 mod", 3.0),
            ("2 -3 pow", 0.125),
            ("e ln", 1.0),
            ("2.5 nearbyint 3.5 nearbyint +", 6.0),
            ("2.5 round -2.5 round -", 6.0),
        ] {
            assert_eq!(evaluate(text), Ok(value), "{text}");
        }
        for wrong in ["", "1 2", "+", "1 +", "1 2 nosuch", "nan", "1 inf +"] {
            assert!(evaluate(wrong).is_err(), "{wrong}");
        }
        assert_eq!(evaluate("1 nosuch"), Err("`nosuch` is unknown".into()));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([0-9.]{1,3}|[a-z]{1,4}|[-+*/%^]| ){0,20}") {
            let _ = evaluate(&text);
        }
    }
}
