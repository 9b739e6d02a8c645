//! The derive macro of `textbrewer`, which hands it on: `use textbrewer::Batch` is all that is
//! needed.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DataStruct, DeriveInput, Error, Generics, Result, parse_macro_input, parse_quote};

/// Implements the trait `Batch` for a struct by moving each of its fields.
///
/// Every field's type has to be a `Batch`, and so has every type parameter.
#[proc_macro_derive(Batch)]
pub fn derive_batch(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let code = implement_batch(&input).unwrap_or_else(|error| error.to_compile_error());
    code.into()
}

fn implement_batch(input: &DeriveInput) -> Result<TokenStream> {
    let data = struct_of(input)?;
    let (fields, ids) = (moved_fields(data), ids_of_fields(data));
    let name = &input.ident;
    let generics = bounded(input.generics.clone());
    let (parameters, arguments, conditions) = generics.split_for_impl();
    let device = match fields.is_empty() {
        true => quote!(_),
        false => quote!(device),
    };
    Ok(quote! {
        #[automatically_derived]
        impl #parameters ::textbrewer::Batch for #name #arguments #conditions {
            fn to_device(
                &self,
                #device: ::textbrewer::__private::Device,
            ) -> ::textbrewer::Result<Self> {
                ::core::result::Result::Ok(Self { #(#fields),* })
            }

            fn ids(&self) -> ::core::option::Option<&::textbrewer::Ids> {
                ::core::option::Option::None #(.or_else(|| #ids))*
            }
        }
    })
}

fn struct_of(input: &DeriveInput) -> Result<&DataStruct> {
    let remedy = match &input.data {
        Data::Struct(data) => return Ok(data),
        Data::Enum(_) => {
            "an enum implements it by hand: match on the variants, and move each field with \
             `Batch::to_device(field, device)?`"
        }
        Data::Union(_) => "make the union a struct, or implement it by hand",
    };
    let message = format!("`Batch` can be derived for structs only; {remedy}");
    Err(Error::new(input.ident.span(), message))
}

/// `name: Batch::to_device(&self.name, device)?` for each field; for tuples the name is a number.
fn moved_fields(data: &DataStruct) -> Vec<TokenStream> {
    let members = data.fields.members().zip(&data.fields);
    let moved = members.map(|(member, field)| {
        // A type that is no batch is underlined where it is written.
        let to_device = quote_spanned!(field.ty.span()=> ::textbrewer::Batch::to_device);
        quote!(#member: #to_device(&self.#member, device)?)
    });
    moved.collect()
}

/// `Batch::ids(&self.name)` for each field: the first that has ids says them.
fn ids_of_fields(data: &DataStruct) -> Vec<TokenStream> {
    let ids = data.fields.members();
    ids.map(|member| quote!(::textbrewer::Batch::ids(&self.#member)))
        .collect()
}

/// With `T: Batch` for every type parameter.
fn bounded(mut generics: Generics) -> Generics {
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(parse_quote!(::textbrewer::Batch));
    }
    generics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_struct_is_told_what_to_do() {
        let refused = |input: DeriveInput| implement_batch(&input).unwrap_err().to_string();
        assert_eq!(
            refused(parse_quote!(
                enum Target {
                    Labels(Tensor),
                }
            )),
            "`Batch` can be derived for structs only; an enum implements it by hand: match on the \
             variants, and move each field with `Batch::to_device(field, device)?`"
        );
        assert_eq!(
            refused(parse_quote!(
                union Number {
                    whole: i64,
                    real: f64,
                }
            )),
            "`Batch` can be derived for structs only; make the union a struct, or implement it by \
             hand"
        );
    }
}
