//! Tokens with a task of their own, as the files of a tokenizer name them.

use serde::Deserialize;
use tokenizers::AddedToken;

/// A token as a text, or with its attributes.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a text, or an object with its `content`"
)]
pub(super) enum Token {
    Text(String),
    Full {
        content: String,
        #[serde(default)]
        single_word: bool,
        #[serde(default)]
        lstrip: bool,
        #[serde(default)]
        rstrip: bool,
        normalized: Option<bool>,
        special: Option<bool>,
    },
}

impl Token {
    pub(super) fn content(&self) -> &str {
        match self {
            Token::Text(content) | Token::Full { content, .. } => content,
        }
    }

    /// `special` where the token itself does not say it.
    pub(super) fn added(&self, special: bool) -> AddedToken {
        match self {
            Token::Text(content) => AddedToken::from(content, special),
            Token::Full {
                content,
                single_word,
                lstrip,
                rstrip,
                normalized,
                special: own,
            } => {
                let special = own.unwrap_or(special);
                AddedToken::from(content, special)
                    .single_word(*single_word)
                    .lstrip(*lstrip)
                    .rstrip(*rstrip)
                    .normalized(normalized.unwrap_or(!special))
            }
        }
    }
}

/// The keys that `special_tokens_map.json` has too.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Special {
    unk_token: Option<Token>,
    sep_token: Option<Token>,
    pad_token: Option<Token>,
    cls_token: Option<Token>,
    mask_token: Option<Token>,
    additional_special_tokens: Option<Vec<Token>>,
}

/// The special tokens that BERT's tokenizer has in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Unknown,
    Separator,
    Padding,
    Class,
    Mask,
}

impl Role {
    pub(super) const ALL: [Role; 5] = [
        Role::Unknown,
        Role::Separator,
        Role::Padding,
        Role::Class,
        Role::Mask,
    ];

    fn default_name(self) -> &'static str {
        match self {
            Role::Unknown => "[UNK]",
            Role::Separator => "[SEP]",
            Role::Padding => "[PAD]",
            Role::Class => "[CLS]",
            Role::Mask => "[MASK]",
        }
    }
}

impl Special {
    fn token(&self, role: Role) -> Option<&Token> {
        let token = match role {
            Role::Unknown => &self.unk_token,
            Role::Separator => &self.sep_token,
            Role::Padding => &self.pad_token,
            Role::Class => &self.cls_token,
            Role::Mask => &self.mask_token,
        };
        token.as_ref()
    }

    /// What the token is called.
    pub(super) fn name(&self, role: Role) -> &str {
        self.token(role).map_or(role.default_name(), Token::content)
    }

    /// BERT's five special tokens.
    pub(super) fn five(&self) -> impl Iterator<Item = AddedToken> + '_ {
        Role::ALL.into_iter().map(|role| match self.token(role) {
            Some(token) => token.added(true).special(true),
            None => AddedToken::from(role.default_name(), true),
        })
    }

    /// Those beyond the five.
    pub(super) fn more(&self) -> &[Token] {
        self.additional_special_tokens
            .as_deref()
            .unwrap_or_default()
    }

    /// Whether a token is one of these.
    pub(super) fn has(&self, name: &str) -> bool {
        let is_one_of_five = Role::ALL.into_iter().any(|role| self.name(role) == name);
        is_one_of_five || self.more().iter().any(|token| token.content() == name)
    }

    /// Takes over what another file says.
    pub(super) fn take(&mut self, other: Special) {
        self.unk_token = other.unk_token.or(self.unk_token.take());
        self.sep_token = other.sep_token.or(self.sep_token.take());
        self.pad_token = other.pad_token.or(self.pad_token.take());
        self.cls_token = other.cls_token.or(self.cls_token.take());
        self.mask_token = other.mask_token.or(self.mask_token.take());
        let more = self.additional_special_tokens.take();
        self.additional_special_tokens = other.additional_special_tokens.or(more);
    }
}
