//! Orders as a table that spreadsheets open safely: CSV in UTF-8 with a byte order mark, CRLF, one row per line of an
//! order.
//!
//! Cells that people can choose get an apostrophe in front when a spreadsheet would take them for a formula, or for a
//! number or date that it would write another way (OWASP, "CSV injection"). Cells that begin with one get another, so
//! that what stands behind the first apostrophe of a cell is always what was there.

use std::io::{self, Write};

use csv::{QuoteStyle, Terminator, Writer, WriterBuilder};

use crate::{
    clock::UnixMs,
    id::{Currency, MerchantId},
    order::{
        hold::{State, View},
        store::{Failure, LedgerFile},
    },
    protocol::OrderState,
};

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

const COLUMNS: [&str; 18] = [
    "order",
    "state",
    "placed_at",
    "placed_at_ms",
    "room",
    "show",
    "merchant",
    "buyer",
    "sku",
    "product",
    "quantity",
    "refunded",
    "unit_price_minor",
    "unit_price",
    "currency",
    "line_total_minor",
    "line_total",
    "payment",
];

/// Digits that a spreadsheet keeps of a number.
const DIGITS_KEPT: usize = 15;

/// Which orders are exported.
#[derive(Clone, Debug, Default)]
pub struct OrderFilter {
    pub merchant: Option<MerchantId>,
    pub state: Option<OrderState>,
    /// Placed later than this.
    pub after: UnixMs,
}

/// Writes the orders of a ledger to `to`, the oldest first, and says how many there are. Nothing of them stays in
/// memory.
pub fn export_orders<W: Write>(ledger: &LedgerFile, filter: &OrderFilter, to: W) -> Result<u64, Failure> {
    let io = |error| Failure::Io { path: "the list of orders".to_owned(), error };
    let mut sheet = Sheet::begin(to).map_err(io)?;
    let mut count = 0;
    ledger.orders(filter.after, |order| {
        let of_merchant = filter.merchant.as_ref().is_none_or(|merchant| *merchant == order.held.merchant);
        let in_state = filter.state.is_none_or(|state| State::of_order(state) == order.standing.state);
        if !of_merchant || !in_state {
            return Ok(());
        }
        count += 1;
        sheet.order(order)
    })?;
    sheet.0.flush().map_err(io)?;
    Ok(count)
}

struct Sheet<W: Write>(Writer<W>);

impl<W: Write> Sheet<W> {
    fn begin(mut to: W) -> io::Result<Self> {
        to.write_all(BYTE_ORDER_MARK)?;
        let csv = WriterBuilder::new().terminator(Terminator::CRLF).quote_style(QuoteStyle::Always).from_writer(to);
        let mut sheet = Self(csv);
        sheet.row(&COLUMNS.map(str::to_owned))?;
        Ok(sheet)
    }

    fn order(&mut self, view: &View) -> io::Result<()> {
        let order = view.with_its_buyer();
        for line in &order.lines {
            let (held, currency) = (&view.held, line.price.currency);
            let total = line.price.amount.saturating_mul(line.quantity.into());
            self.row(&[
                text(&order.id.to_string()),
                view.standing.state.as_str().to_owned(),
                order.at.to_utc(),
                order.at.0.to_string(),
                text(held.room.as_ref().map_or("", |room| room.as_str())),
                text(held.show.as_deref().unwrap_or_default()),
                text(order.merchant.as_str()),
                text(order.buyer.as_deref().unwrap_or_default()),
                text(line.sku.as_str()),
                text(line.product.as_str()),
                line.quantity.to_string(),
                line.refunded.to_string(),
                line.price.amount.to_string(),
                decimal(line.price.amount, currency),
                currency.as_str().to_owned(),
                total.to_string(),
                decimal(total, currency),
                text(order.payment.as_deref().unwrap_or_default()),
            ])?;
        }
        Ok(())
    }

    fn row(&mut self, cells: &[String; COLUMNS.len()]) -> io::Result<()> {
        self.0.write_record(cells).map_err(io::Error::from)
    }
}

/// A cell that stays the text it is.
fn text(cell: &str) -> String {
    if is_formula(cell) || is_rewritten(cell) || cell.starts_with('\'') { format!("'{cell}") } else { cell.to_owned() }
}

/// Spreadsheets look behind blanks; full-width signs are folded by some.
fn is_formula(cell: &str) -> bool {
    let invisible = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{feff}');
    let first = cell.trim_start_matches(invisible).chars().next();
    let control = cell.starts_with(['\t', '\r', '\n']);
    control || first.is_some_and(|c| matches!(c, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠' | '−' | '﹢' | '﹣'))
}

/// Would come out as another number, or as a date: `007`, `1e5`, `1-2`, a number of more than fifteen digits.
fn is_rewritten(cell: &str) -> bool {
    let numeric =
        |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | ':' | '/' | '-' | '+' | 'e' | 'E' | ' ' | '%');
    if !cell.starts_with(|c: char| c.is_ascii_digit() || c == '.') || !cell.chars().all(numeric) {
        return false;
    }
    let plain = cell.bytes().all(|b| b.is_ascii_digit()) && cell.len() <= DIGITS_KEPT;
    !plain || (cell.len() > 1 && cell.starts_with('0'))
}

/// The amount in the currency's own units; empty for a currency whose minor unit we do not know.
fn decimal(minor: i64, currency: Currency) -> String {
    let Some(digits) = minor_digits(currency.as_str()) else { return String::new() };
    if digits == 0 {
        return minor.to_string();
    }
    let unit = 10u64.pow(digits);
    let (whole, rest) = (minor.unsigned_abs() / unit, minor.unsigned_abs() % unit);
    let sign = if minor < 0 { "-" } else { "" };
    format!("{sign}{whole}.{rest:0width$}", width = digits as usize)
}

/// Digits behind the point (ISO 4217).
fn minor_digits(currency: &str) -> Option<u32> {
    const NONE: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF";
    const TWO: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD \
                       CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD \
                       HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD \
                       MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON \
                       RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD \
                       TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG";
    const THREE: &str = "BHD IQD JOD KWD LYD OMR TND";
    const FOUR: &str = "CLF UYW";
    let of = [(NONE, 0), (TWO, 2), (THREE, 3), (FOUR, 4)];
    of.into_iter().find(|(all, _)| all.split_whitespace().any(|known| known == currency)).map(|(_, digits)| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_and_each_can_be_had_back() {
        for hostile in [
            "=1+1",
            "+1",
            "-1",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "\n=1",
            " =1",
            "\u{a0}=1",
            "\u{200b}=1",
            "＝1",
            "＋1",
            "－1",
            "＠x",
            "'=1",
            "''",
            "00123",
            "12345678901234567890",
            "1E5",
            "1-2",
            "3.10",
            "10:30",
            "1/2",
        ] {
            let cell = text(hostile);
            assert_eq!(cell.strip_prefix('\''), Some(hostile), "{hostile:?}");
        }
        for harmless in
            ["", "ann", "red_scarf", "1001", "0", "a=1", "买手", "12a", "019a8b7c-0000-7000-8000-0123456789ab"]
        {
            assert_eq!(text(harmless), harmless);
        }
    }

    #[test]
    fn amounts_have_the_digits_of_their_currency() {
        let of = |minor, currency: &str| decimal(minor, currency.parse().unwrap());
        assert_eq!((of(12_345, "CNY"), of(5, "USD"), of(0, "EUR")), ("123.45".into(), "0.05".into(), "0.00".into()));
        assert_eq!((of(500, "JPY"), of(1_234, "KWD"), of(1, "CLF")), ("500".into(), "1.234".into(), "0.0001".into()));
        assert_eq!(
            (of(-150, "CNY"), of(i64::MIN, "JPY"), of(7, "ZZZ")),
            ("-1.50".into(), i64::MIN.to_string(), String::new())
        );
    }
}
