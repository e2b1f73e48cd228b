#!/bin/sh
# Create the namespace and its search attributes, as `corral/wire.py` names them. Harmless to repeat.
set -eu

until temporal operator cluster health; do sleep 1; done
temporal operator namespace describe -n "$TEMPORAL_NAMESPACE" ||
  temporal operator namespace create -n "$TEMPORAL_NAMESPACE" --retention 7d

attribute() {
  until temporal operator search-attribute list | grep -q "^ *$1 "; do
    temporal operator search-attribute create --name "$1" --type "$2" || sleep 1
  done
}

attribute Queue Keyword
attribute Tier Keyword
attribute State Keyword
attribute Region Keyword
attribute Sku Keyword
attribute Priority Int
