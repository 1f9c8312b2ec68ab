//! From the text of a statement to its syntax: one statement, which only reads, and isn't so long that planning it takes the machine.

use crate::error::{Error, Result};
use crate::statements;
use datafusion::execution::session_state::SessionState;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as Sql;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// Operators of a statement at most: each may be one step deeper, and every pass of the planner goes down all of them. The stacks of our threads
/// ([`crate::app::STACK`]) are made for so many.
pub const MOST_OPERATORS: usize = 12_000;

/// The syntax of a statement that may run.
pub fn parse(state: &SessionState, sql: &str) -> Result<Statement> {
    if statements::split(sql).len() > 1 {
        return Err(Error::new("SQL", "there is more than one statement").hint("give one; the command can be run several times"));
    }
    let operators = operators(sql);
    if operators > MOST_OPERATORS {
        let why = format!("the statement has {operators} operators; {MOST_OPERATORS} are the most");
        return Err(Error::new("SQL", why).hint("a list (x IN (1, 2, …)) may be as long as you like, and so may VALUES"));
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

/// How many operators join expressions or queries in `sql`. What is no SQL has none: the parser says why.
fn operators(sql: &str) -> usize {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return 0 };
    let mut count = 0;
    let mut after_operand = false;
    for token in tokens {
        match token {
            Token::Whitespace(_) => continue,
            Token::Word(word) => {
                let joins = matches!(
                    word.keyword,
                    Keyword::AND
                        | Keyword::OR
                        | Keyword::NOT
                        | Keyword::LIKE
                        | Keyword::ILIKE
                        | Keyword::BETWEEN
                        | Keyword::IS
                        | Keyword::CASE
                        | Keyword::UNION
                        | Keyword::EXCEPT
                        | Keyword::INTERSECT
                        | Keyword::JOIN
                );
                count += usize::from(joins);
                after_operand = !joins;
            }
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::Placeholder(_)
            | Token::RParen
            | Token::RBracket => after_operand = true,
            Token::Comma | Token::LParen | Token::LBracket | Token::SemiColon | Token::Period | Token::Colon => after_operand = false,
            // A sign before a number is part of it.
            Token::Minus | Token::Plus if !after_operand => {}
            _ => {
                count += 1;
                after_operand = false;
            }
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::operators;

    #[test]
    fn what_makes_a_statement_deep_is_counted_and_lists_are_not() {
        assert_eq!(operators("SELECT 1 + 2 - 3"), 2);
        assert_eq!(operators("SELECT a FROM t WHERE x IN (1, -2, 'a+b', -3) -- and or"), 0);
        assert_eq!(operators("SELECT 1 UNION ALL SELECT 2"), 1);
        assert_eq!(operators("SELECT CASE WHEN a = 1 OR b IS NULL THEN x::INT END"), 5);
        assert_eq!(operators("VALUES (1), (2), (3)"), 0);
    }
}
