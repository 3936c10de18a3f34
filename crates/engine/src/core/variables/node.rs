//! The time, the process, and the last error.

use tandem_script::value::Value;

use super::{named, read, text, write};
use crate::context::ErrorKind;
use crate::date;
use crate::log::Level;
use crate::module::{VarCall, VariableDef};

/// Class of an error and its severity, as error_route sees them.
const fn class_and_level(kind: ErrorKind) -> (i32, i32) {
    match kind {
        ErrorKind::Message => (1, 3),
        ErrorKind::Assertion => (2, 1),
    }
}

pub(super) const VARIABLES: &[VariableDef] = &[
    read("Ts", "Unix seconds.", |c| Value::Int(c.cx.now.unix_s() as i32)),
    read("Tsm", "Microseconds within the second.", |c| {
        Value::Int((c.cx.now.unix_ms % 1000 * 1000) as i32)
    }),
    read("Tf", "Date and time as text.", |c| text(date::ctime(c.cx.wall_s()))),
    read("TS", "Unix seconds of the start.", |c| Value::Int(c.cx.node.started.unix_s() as i32)),
    named(read("time", "Date and time by a format of strftime(3).", |c| {
        text(date::format(c.cx.wall_s(), &String::from_utf8_lossy(c.access.name)))
    })),
    read("pp", "Id of the process.", |c| Value::Int(c.cx.node.pid() as i32)),
    write(
        "log_level",
        "Level up to which this worker logs; null: that of the node again.",
        |c| level(c.cx.worker.log_level, c.cx.node.log_level()),
        |c, _, value| {
            c.cx.worker.log_level = new_level(&value)?;
            Ok(())
        },
    ),
    write(
        "xlog_level",
        "Level up to which xlog() of this worker writes; null: that of the node again.",
        |c| level(c.cx.worker.xlog_level, c.cx.node.xlog_level()),
        |c, _, value| {
            c.cx.worker.xlog_level = new_level(&value)?;
            Ok(())
        },
    ),
    named(read("argv", "What `-o NAME=VALUE` of the command line says.", |c| {
        let name = String::from_utf8_lossy(c.access.name);
        c.cx.node.option(&name).map_or(Value::Null, text)
    })),
    named(read("C", "A colour for terminals: foreground and background.", colour)),
    read("err.class", "Class of the last error: 1, an unreadable message; 2, an assertion.", |c| {
        if_error(c, Value::Int(class_and_level(c.ctx.error.kind).0))
    }),
    read("err.level", "Severity of the last error: 3, medium; 1, critical.", |c| {
        if_error(c, Value::Int(class_and_level(c.ctx.error.kind).1))
    }),
    read("err.info", "What is wrong with the message.", |c| text(c.ctx.error.reason.clone())),
    read("err.rcode", "Reply code for the last error.", |c| {
        if_error(c, Value::Int(i32::from(c.ctx.error.code)))
    }),
    read("err.rreason", "Reply reason for the last error.", |c| text(c.ctx.error.reason.clone())),
];

fn level(own: Option<Level>, of_node: i8) -> Value {
    Value::Int(i32::from(own.map_or(of_node, |l| l as i8)))
}

fn new_level(value: &Value) -> Result<Option<Level>, String> {
    match (value, value.int()) {
        (Value::Null, _) => Ok(None),
        (_, Some(n)) => Ok(Some(Level::from_number(n))),
        _ => Err("a level is a number from -3 to 4".to_owned()),
    }
}

fn if_error(call: &VarCall<'_, '_>, value: Value) -> Value {
    if call.ctx.error.code == 0 { Value::Null } else { value }
}

/// `$C(fb)`: a letter each, `x` for the terminal's own; upper case is bright.
fn colour(call: &mut VarCall<'_, '_>) -> Value {
    use tandem_script::program::Setting;
    let wanted = matches!(
        call.cx.worker.script.program.global("xlog_force_color"),
        Some(Setting::Int(n)) if *n != 0
    );
    let [foreground, background, ..] = call.access.name else { return text("") };
    if !wanted {
        return text("");
    }
    let number = |letter: u8| b"srgybpcw".iter().position(|c| *c == letter.to_ascii_lowercase());
    let mut codes = vec!["0".to_owned()];
    if foreground.is_ascii_uppercase() {
        codes.push("1".to_owned());
    }
    codes.extend(number(*foreground).map(|n| format!("3{n}")));
    codes.extend(number(*background).map(|n| format!("4{n}")));
    text(format!("\x1b[{}m", codes.join(";")))
}
