//! Expressions as people write them: `2 * (1 + sqrt(9))`.

/// Brackets and signs inside each other.
const DEPTH_MAX: usize = 100;

type One = (&'static str, fn(f64) -> f64);
type Two = (&'static str, fn(f64, f64) -> f64);

/// Functions of one number.
const ONE: &[One] = &[
    ("abs", f64::abs),
    ("acos", f64::acos),
    ("asin", f64::asin),
    ("atan", f64::atan),
    ("cbrt", f64::cbrt),
    ("ceil", f64::ceil),
    ("cos", f64::cos),
    ("cosh", f64::cosh),
    ("exp", f64::exp),
    ("floor", f64::floor),
    ("ln", f64::ln),
    ("log", f64::log10),
    ("log10", f64::log10),
    ("log2", f64::log2),
    // Of two that are equally near the even one, where `round` goes away from zero.
    ("nearbyint", f64::round_ties_even),
    ("round", f64::round),
    ("sin", f64::sin),
    ("sinh", f64::sinh),
    ("sqrt", f64::sqrt),
    ("tan", f64::tan),
    ("tanh", f64::tanh),
    ("trunc", f64::trunc),
];

/// Functions of two numbers.
const TWO: &[Two] = &[("atan2", f64::atan2), ("pow", f64::powf), ("fmod", |a, b| a % b)];

pub(crate) fn one_of(name: &str) -> Option<fn(f64) -> f64> {
    ONE.iter().find(|(n, _)| *n == name).map(|(_, run)| *run)
}

pub(crate) fn constant(name: &str) -> Option<f64> {
    match name {
        "pi" => Some(std::f64::consts::PI),
        "e" => Some(std::f64::consts::E),
        _ => None,
    }
}

/// The value of an expression.
///
/// # Errors
/// What is wrong with it, in plain words.
pub(crate) fn evaluate(text: &str) -> Result<f64, String> {
    let mut parser = Parser { rest: text.trim_start(), depth: 0 };
    let value = parser.sum()?;
    match parser.rest {
        "" => Ok(value),
        rest => Err(format!("`{rest}` is too much")),
    }
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn take(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn sum(&mut self) -> Result<f64, String> {
        let mut value = self.product()?;
        loop {
            if self.take('+') {
                value += self.product()?;
            } else if self.take('-') {
                value -= self.product()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<f64, String> {
        let mut value = self.power()?;
        loop {
            if self.take('*') {
                value *= self.power()?;
            } else if self.take('/') {
                value /= self.power()?;
            } else if self.take('%') {
                value %= self.power()?;
            } else {
                return Ok(value);
            }
        }
    }

    /// From left to right, and weaker than a sign.
    fn power(&mut self) -> Result<f64, String> {
        let mut value = self.signed()?;
        while self.take('^') {
            value = value.powf(self.signed()?);
        }
        Ok(value)
    }

    fn signed(&mut self) -> Result<f64, String> {
        let mut negative = false;
        loop {
            if self.take('-') {
                negative = !negative;
            } else if !self.take('+') {
                break;
            }
        }
        let value = self.value()?;
        Ok(if negative { -value } else { value })
    }

    fn value(&mut self) -> Result<f64, String> {
        if self.take('(') {
            let value = self.inside(Self::sum)?;
            return if self.take(')') { Ok(value) } else { Err("a `)` is missing".into()) };
        }
        let name = self.word(|c| c.is_ascii_alphanumeric(), char::is_alphabetic);
        if name.is_empty() {
            return self.number();
        }
        if let Some(value) = constant(name) {
            return Ok(value);
        }
        if let Some(run) = one_of(name) {
            // sqrt 9 is as good as sqrt(9).
            return self.inside(|p| Ok(run(p.signed()?)));
        }
        let run = TWO.iter().find(|(n, _)| *n == name).map(|(_, run)| *run);
        let run = run.ok_or_else(|| format!("there is no function `{name}`"))?;
        if !self.take('(') {
            return Err(format!("`{name}` takes two numbers in brackets"));
        }
        let (a, comma, b) = (self.inside(Self::sum)?, self.take(','), self.inside(Self::sum)?);
        match comma && self.take(')') {
            true => Ok(run(a, b)),
            false => Err(format!("`{name}` takes two numbers in brackets")),
        }
    }

    fn inside(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<f64, String>,
    ) -> Result<f64, String> {
        if self.depth >= DEPTH_MAX {
            return Err("it is nested too deep".into());
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    /// Takes what fits, if its first character is a right one.
    fn word(&mut self, fits: fn(char) -> bool, first: fn(char) -> bool) -> &'a str {
        let rest = self.rest;
        if !rest.starts_with(first) {
            return "";
        }
        let end = rest.find(|c| !fits(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        self.rest = after.trim_start();
        word
    }

    fn number(&mut self) -> Result<f64, String> {
        let rest = self.rest;
        let bytes = rest.as_bytes();
        let digits = |from: usize| {
            let is_digit = |b: &&u8| b.is_ascii_digit() || **b == b'.';
            from + bytes.iter().skip(from).take_while(is_digit).count()
        };
        let mut end = digits(0);
        // An exponent is one only with its digits.
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            if bytes.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
                end = digits(end + 1 + sign);
            }
        }
        let (word, after) = rest.split_at(end);
        self.rest = after.trim_start();
        word.parse().map_err(|_| match rest.is_empty() {
            true => "it ends too early".to_owned(),
            false => format!("`{rest}` is not a number"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn operators_bind_as_in_school() {
        for (text, value) in [
            ("1 + 2 * 3", 7.0),
            ("(1 + 2) * 3", 9.0),
            ("10 / 4 - 1", 1.5),
            ("7 % 4", 3.0),
            ("2 ^ 3 ^ 2", 64.0),
            ("-2 ^ 2", 4.0),
            ("2 - -3", 5.0),
            ("sqrt(16) + pow(2, 3)", 12.0),
            ("1.5e2 + 1", 151.0),
            ("floor 2.7", 2.0),
            ("log(1000) + ln(e)", 4.0),
        ] {
            let got = evaluate(text).unwrap();
            assert!((got - value).abs() < 1e-9, "{text}: {got}");
        }
        for wrong in ["", "1 +", "(1", "1 2", "nosuch(1)", "pow(1)", "1..2", "1,2"] {
            assert!(evaluate(wrong).is_err(), "{wrong}");
        }
        assert!(evaluate(&"(".repeat(5_000)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9a-z.+*/%^(), -]{0,40}") {
            let _ = evaluate(&text);
        }
    }
}
