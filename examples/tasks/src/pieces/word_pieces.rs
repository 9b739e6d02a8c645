//! BERT's tokenizer from its list of word pieces.

use std::path::Path;

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, NormalizerWrapper, Tokenizer};

use super::settings::Settings;
use super::token::Role;
use crate::{Error, Result, disk};

/// Reads `vocab.txt`.
///
/// # Errors
/// When it is not a vocabulary of BERT, or the settings are those of another tokenizer.
pub(super) fn from_vocabulary(file: &Path, settings: &Settings) -> Result<Tokenizer> {
    settings.check_is_bert()?;
    let failed = |error: tokenizers::Error| Error::file(file, error.to_string());
    let lines = lines(&disk::read(file)?);
    let model = WordPiece::builder()
        .vocab(WordPiece::read_bytes(lines.as_bytes()).map_err(failed)?)
        .unk_token(settings.name(Role::Unknown).to_owned());
    let mut tokenizer = Tokenizer::new(model.build().map_err(failed)?);
    let id = |token: &str| {
        let id = tokenizer.token_to_id(token);
        id.ok_or_else(|| Error::file(file, format!("no line `{token}`: not a BERT vocabulary")))
    };
    let special = |role: Role| -> Result<_> {
        let name = settings.name(role);
        Ok((name.to_owned(), id(name)?))
    };
    special(Role::Unknown)?;
    let (class, separator) = (special(Role::Class)?, special(Role::Separator)?);
    tokenizer.with_normalizer(Some(BertNormalizer::new(true, true, None, true)));
    follow(&mut tokenizer, settings);
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_post_processor(Some(BertProcessing::new(separator, class)));
    Ok(tokenizer)
}

/// The lines of a vocabulary, which ends where there are only blank ones. A blank line before that
/// counts, for a piece's number is its line.
fn lines(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.trim_end().to_owned()
}

/// BERT's tokenizers of `transformers` begin with the settings, or the defaults of those that are
/// absent or null, whatever `tokenizer.json` says. Its other tokenizers do not read them.
pub(super) fn follow(tokenizer: &mut Tokenizer, settings: &Settings) {
    if !settings.are_of_bert() {
        return;
    }
    let Some(NormalizerWrapper::BertNormalizer(old)) = tokenizer.get_normalizer() else {
        return;
    };
    let normalizer = BertNormalizer::new(
        old.clean_text,
        settings.tokenize_chinese_chars.unwrap_or(true),
        settings.strip_accents,
        settings.do_lower_case.unwrap_or(true),
    );
    tokenizer.with_normalizer(Some(normalizer));
}

/// Adds the tokens that the vocabulary lacks, and marks those that must not be split.
///
/// # Errors
/// When a token cannot have the id that it is to have.
pub(super) fn add(
    tokenizer: &mut Tokenizer,
    settings: &Settings,
    with_specials: bool,
) -> Result<()> {
    for (id, token) in settings.added() {
        tokenizer.add_tokens(std::slice::from_ref(&token));
        let got = tokenizer.token_to_id(&token.content);
        if let (Some(wanted), Some(got)) = (id, got)
            && wanted != got
        {
            return Err(Error::file(
                settings.file_of_added(),
                format!(
                    "`{}` is to have the id {wanted} and gets {got}: ids of added \
                     tokens follow those of the vocabulary without a gap; give a folder with \
                     tokenizer.json",
                    token.content
                ),
            ));
        }
    }
    if with_specials {
        let known = |token: &AddedToken| tokenizer.token_to_id(&token.content).is_some();
        let specials: Vec<_> = settings.specials().filter(known).collect();
        tokenizer.add_special_tokens(&specials);
    }
    Ok(())
}
