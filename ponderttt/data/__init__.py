"""Named sources, tokenizers and documents cut into units."""

from ponderttt.data.documents import CodeDataset as CodeDataset
from ponderttt.data.documents import Corpus as Corpus
from ponderttt.data.documents import load_documents as load_documents
from ponderttt.data.iterator import create_data_iterator as create_data_iterator
from ponderttt.data.language import get_wikitext2_dataloaders as get_wikitext2_dataloaders
from ponderttt.data.language import load_language as load_language
from ponderttt.data.repositories import Repositories as Repositories
from ponderttt.data.repositories import load_repositories as load_repositories
from ponderttt.data.sources import SOURCES as SOURCES
from ponderttt.data.sources import load_source as load_source
from ponderttt.data.tokenizer import get_tokenizer as get_tokenizer
