//! From the text of a statement to its syntax: one statement, which only reads, and isn't so long that planning it takes the machine.

use crate::error::{Error, Result};
use crate::statements;
use datafusion::execution::session_state::SessionState;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as Sql;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// Operators that follow one another at most, as in `a + b + c`. Each makes the tree one step deeper, every pass of the planner goes down all of it, and
/// at each step some of them look at all that is below: the time grows with the square. The stacks of our threads ([`crate::app::STACK`]) are made
/// for so many.
pub const LONGEST_CHAIN: usize = 2_000;
/// Tables and queries that a statement joins or unites at most, for the same reason.
pub const MOST_JOINS: usize = 500;

/// The syntax of a statement that may run.
pub fn parse(state: &SessionState, sql: &str) -> Result<Statement> {
    if statements::split(sql).len() > 1 {
        return Err(Error::new("SQL", "there is more than one statement").hint("give one; the command can be run several times"));
    }
    let shape = Shape::of(sql);
    if shape.chain > LONGEST_CHAIN {
        let why = format!("{} operators follow one another; {LONGEST_CHAIN} are the most", shape.chain);
        return Err(Error::new("SQL", why).hint("a list may be longer: x IN (1, 2, …) instead of x = 1 OR x = 2 OR …"));
    }
    if shape.joins > MOST_JOINS {
        let why = format!("{} tables or queries are joined or united; {MOST_JOINS} are the most", shape.joins);
        return Err(Error::new("SQL", why).hint("a list of values may be longer: VALUES (1, 'a'), (2, 'b'), …"));
    }
    let dialect = state.config().options().sql_parser.dialect;
    let statement = state.sql_to_statement(sql, &dialect)?;
    let reads = match &statement {
        Statement::Statement(sql) => matches!(
            **sql,
            Sql::Query(_)
                | Sql::Explain { .. }
                | Sql::ExplainTable { .. }
                | Sql::ShowTables { .. }
                | Sql::ShowColumns { .. }
                | Sql::ShowFunctions { .. }
                | Sql::ShowVariable { .. }
                | Sql::ShowVariables { .. }
        ),
        Statement::Explain(_) => true,
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => false,
    };
    if reads { Ok(statement) } else { Err(refused()) }
}

/// The error of a statement that does more than read.
pub fn refused() -> Error {
    Error::new("SQL", "not supported: only statements that read are")
        .hint("a capture is read-only, and SQL can read nothing else: one SELECT, WITH, EXPLAIN or SHOW at a time")
}

/// What makes a statement deep.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shape {
    /// The most operators that follow one another.
    chain: usize,
    /// Joins and set operations.
    joins: usize,
}

/// One pair of brackets, or what is outside of all.
#[derive(Default)]
struct Level {
    chain: usize,
    /// Whether commas join tables here.
    tables: bool,
}

impl Shape {
    /// Of the statement `sql`. What is no SQL has none: the parser says why.
    fn of(sql: &str) -> Shape {
        let mut shape = Shape::default();
        let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return shape };
        let mut outer = Vec::new();
        let mut level = Level::default();
        let mut after_operand = false;
        for token in tokens {
            match token {
                Token::Whitespace(_) => continue,
                Token::Word(word) => {
                    after_operand = false;
                    match word.keyword {
                        Keyword::AND | Keyword::OR | Keyword::LIKE | Keyword::ILIKE | Keyword::BETWEEN | Keyword::IS | Keyword::AT => {
                            level.chain += 1;
                        }
                        Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::JOIN => shape.joins += 1,
                        Keyword::FROM => level = Level { chain: 0, tables: true },
                        Keyword::SELECT | Keyword::WHERE | Keyword::GROUP | Keyword::HAVING | Keyword::ORDER | Keyword::WINDOW => {
                            level = Level::default();
                        }
                        _ => after_operand = true,
                    }
                }
                Token::LParen | Token::LBracket => {
                    outer.push(std::mem::take(&mut level));
                    after_operand = false;
                }
                Token::RParen | Token::RBracket => {
                    level = outer.pop().unwrap_or_default();
                    after_operand = true;
                }
                Token::Comma | Token::SemiColon => {
                    shape.joins += usize::from(level.tables);
                    level.chain = 0;
                    after_operand = false;
                }
                Token::Number(..) | Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) | Token::Placeholder(_) => {
                    after_operand = true;
                }
                Token::Period | Token::Colon => after_operand = false,
                // A sign before a number is part of it.
                Token::Minus | Token::Plus if !after_operand => {}
                _ => {
                    level.chain += 1;
                    after_operand = false;
                }
            }
            shape.chain = shape.chain.max(level.chain);
        }
        shape
    }
}

#[cfg(test)]
mod tests {
    use super::Shape;

    #[test]
    fn what_makes_a_statement_deep_is_counted_and_lists_are_not() {
        let shape = |sql| {
            let Shape { chain, joins } = Shape::of(sql);
            (chain, joins)
        };
        assert_eq!(shape("SELECT 1 + 2 - 3, 4 * 5"), (2, 0));
        assert_eq!(shape("SELECT a FROM t WHERE x IN (1, -2, 'a+b', -3) -- and or"), (0, 0));
        assert_eq!(shape("SELECT 1 UNION ALL SELECT 2"), (0, 1));
        assert_eq!(shape("SELECT * FROM a, b JOIN c ON a.x = b.x AND (b.y = c.y OR c.z IS NULL)"), (3, 2));
        assert_eq!(shape("SELECT x::INT::TEXT || 'a' FROM t WHERE f(a, b) = 1"), (3, 0));
        assert_eq!(shape("VALUES (1), (2), (3)"), (0, 0));
    }
}
